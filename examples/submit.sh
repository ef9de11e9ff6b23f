#!/usr/bin/env bash
# Submits a video, waits for its end and prints its links; run again with the same order, it makes no
# second one. Needs curl. Exit code 0 when the video is there.
#
#   submit.sh [ORDER]      REELHOOK_URL and REELHOOK_API_KEY say which server, and who asks
set -euo pipefail

server=${REELHOOK_URL:-http://127.0.0.1:8000}
order=${1:-order-$(date +%s)}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

ask() {
    local key=()
    if [[ -n ${REELHOOK_API_KEY-} ]]; then key=(-H "Authorization: Bearer $REELHOOK_API_KEY"); fi
    # Safe to try again: the idempotency key is sent each time.
    curl --silent --show-error --retry 5 --retry-connrefused --max-time 90 ${key[@]+"${key[@]}"} \
        --output "$answer" --write-out '%{http_code}' "$@"
}

# A field of the answer that is text.
field() { grep -o "\"$1\":\"[^\"]*\"" "$answer" | head -n 1 | cut -d '"' -f 4; }

status=$(ask "$server/api/jobs" -H "Idempotency-Key: $order" -H 'Content-Type: application/json' --data @- <<END
{"kind": "video", "callback_id": "$order",
 "request": {"type": "avatar", "avatar_id": "Abigail_standing", "title": "$order", "script": "Hello!"}}
END
)
if [[ $status != 2* ]]; then
    cat "$answer" >&2
    exit 1
fi
job=$(field id)
echo "submitted  $job"

# The server waits with us, up to a minute a call; 202 means that the job has not ended.
while status=$(ask "$server/api/jobs/$job?wait=60") && [[ $status == 202 ]]; do :; done
if [[ $status != 200 ]]; then
    cat "$answer" >&2
    exit 1
fi
if [[ $(field state) != completed ]]; then
    echo "$(field state)     $(field message)" >&2
    exit 1
fi
echo "completed  $(field finished_at)"
echo "video      $(field video_url)"
echo "job        $server$(field status_url)"
echo "events     $server$(field events_url)"
