#!/bin/sh
# Makes every password of compose.yaml, in ./secrets, once: what is there stays.
# The files can be read by the containers' users; the folder by its owner alone. Needs openssl and mosquitto_passwd
# (Debian: mosquitto).
set -eu
cd "$(dirname "$0")"
mkdir -p -m 0700 secrets
cd secrets
umask 022

new() { echo "p$(openssl rand -hex 24)"; } # begins with a letter: nats-server would read 12e4 as a number

if [ ! -e nats.env ]; then
  for user in MONITOR GATEWAY SERVICE OPERATOR; do
    echo "NATS_${user}_PASSWORD=$(new)"
  done >nats.env.new
  mv nats.env.new nats.env
fi
sed -n 's/^NATS_GATEWAY_PASSWORD=//p' nats.env >nats
[ -e mqtt ] || new >mqtt
[ -e grafana ] || new >grafana
if [ ! -e passwd ]; then
  mosquitto_passwd -b -c passwd.new gateway "$(cat mqtt)"
  chmod 0644 passwd.new
  mv passwd.new passwd
fi
