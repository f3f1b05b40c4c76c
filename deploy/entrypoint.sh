#!/bin/sh
# Puts in place what a container is told by its environment, then starts the command.
#   POSTURE_SETTINGS   the text of posture.yaml
#   POSTURE_INSTANCE   which dagster.yaml: dagster.yaml, dagster-postgres.yaml, ... (none: one machine)
set -eu
umask 077

: "${POSTURE_PLACE:=/etc/posture}"
mkdir -p "$DAGSTER_HOME"

if [ -n "${POSTURE_SETTINGS:-}" ]; then
  POSTURE_CONFIG="$(dirname "$DAGSTER_HOME")/posture.yaml"
  export POSTURE_CONFIG
  printf '%s\n' "$POSTURE_SETTINGS" > "$POSTURE_CONFIG"
fi
if [ -n "${POSTURE_INSTANCE:-}" ]; then
  cp "$POSTURE_PLACE/$POSTURE_INSTANCE" "$DAGSTER_HOME/dagster.yaml"
fi

exec "$@"
