#!/bin/sh
# Runs after every install.
set -e
# The `node` package's binary may not run here (musl, a missing library): then scripts use the machine's own Node.js.
if [ -e node_modules/.bin/node ] && ! node_modules/.bin/node --version >/dev/null 2>&1; then
  rm -f node_modules/.bin/node
  echo "The bundled Node.js does not run on this machine; scripts use $(node --version) from PATH." >&2
fi
# Effect's own diagnostics in `tsc`.
effect-tsgo patch --typescript --skip-missing
