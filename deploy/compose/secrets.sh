#!/bin/sh
# Makes every password of compose.yaml, in ./secrets, once: what is there stays.
# The files can be read by the containers' users; the folder by its owner alone. Needs openssl and mosquitto_passwd
# (Debian: mosquitto).
set -eu
cd "$(dirname "$0")"
mkdir -p -m 0700 secrets
cd secrets
umask 022

# Each file gets its name when it is whole. Each password is in a variable first: what fails inside an echo stops nothing.
new() {
  hex=$(openssl rand -hex 24) && [ ${#hex} -eq 48 ] || { echo "secrets.sh: openssl gave no password" >&2; return 1; }
  password=p$hex # begins with a letter: nats-server would read 12e4 as a number
}

if [ ! -s nats.env ]; then
  : >nats.env.new
  for user in MONITOR GATEWAY SERVICE OPERATOR; do
    new
    echo "NATS_${user}_PASSWORD=$password" >>nats.env.new
  done
  mv nats.env.new nats.env
fi
for name in mqtt grafana; do
  if [ ! -s $name ]; then
    new
    echo "$password" >$name.new
    mv $name.new $name
  fi
done
if grep -nE '^(NATS_[A-Z]+_PASSWORD=)?p?$' nats.env mqtt grafana; then
  echo "secrets.sh: these have no password: remove their files, and run this again" >&2
  exit 1
fi
sed -n 's/^NATS_GATEWAY_PASSWORD=//p' nats.env >nats.new
mv nats.new nats
if [ ! -s passwd ]; then
  sed 's/^/gateway:/' mqtt >passwd.new
  mosquitto_passwd -U passwd.new # -b would show the password to whoever lists the processes
  chmod 0644 passwd.new
  mv passwd.new passwd
fi
