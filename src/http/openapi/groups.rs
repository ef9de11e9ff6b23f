//! The schemas of groups.

use serde_json::{Value, json};

use super::{balance, dry_run, maybe, page_of, reference, text, time, whole};
use crate::domain::group::MAX_JOBS;
use crate::domain::job::State;

pub fn schemas() -> [(&'static str, Value); 7] {
    let shown = json!({
        "jobs": {"type": "integer"},
        "cost": {"type": "null", "description": "HeyGen tells the price of nothing before it has made it."},
        "balance": balance(), "outlook": outlook(), "first": whole(dry_run())});
    let canceled = json!({
        "group": reference("Group"), "canceled": {"type": "integer"},
        "not_canceled": {"type": "integer", "description": "Jobs that go on, because HeyGen has them."}});
    let retried = json!({
        "group": reference("Group"),
        "left": {"type": "array", "items": text(), "description": "Failed jobs that HeyGen may have charged for, which `accept_second_charge` would retry."},
        "remaining": {"type": "boolean", "description": "There are more than one call retries, which is 10,000 and 16 MiB: another call, with another key, takes the next."}});
    // Only whoever submits it is told what to expect.
    let mut all = whole(group());
    all["properties"]["outlook"] = outlook();
    [
        ("NewGroup", new_group()),
        ("MoreRows", more_rows()),
        ("Group", all),
        ("GroupPage", page_of("Group")),
        ("GroupDryRun", whole(shown)),
        ("CanceledGroup", whole(canceled)),
        ("RetriedGroup", whole(retried)),
    ]
}

fn group() -> Value {
    let counts = State::ALL.map(|state| (state.name().to_owned(), json!({"type": "integer"})));
    json!({
        "id": text(), "title": maybe("string"), "created_at": time(),
        "finished_at": {"type": ["string", "null"], "format": "date-time", "description": "When the last of its jobs ended; `group.finished` tells it once."},
        "jobs": {"type": "integer"}, "ended": {"type": "integer"},
        "progress": {"type": "integer", "description": "Percent of the jobs that ended."},
        "counts": whole(Value::Object(counts.into_iter().collect())),
        "next_row": {"type": ["integer", "null"], "description": "The number of the row that comes next, while the group takes more; it is not finished before."},
        "retry_of": {"type": ["string", "null"], "description": "The group whose failed jobs these try again."},
        "status_url": text(), "jobs_url": text(), "cancel_url": maybe("string"), "retry_failed_url": maybe("string"),
    })
}

fn outlook() -> Value {
    whole(json!({
        "from_s": {"type": "integer", "description": "Seconds until all have ended if all goes well, at what HeyGen takes at once now and behind what is queued already."},
        "to_s": {"type": "integer", "description": "The same, when all take long."},
        "slots": {"type": "integer", "description": "How many HeyGen takes at once now."},
        "deadline_s": {"type": "integer", "description": "Seconds until the first deadline of these jobs."},
        "hint": {"type": ["string", "null"], "description": "What to do when a deadline comes before that."},
    }))
}

fn new_group() -> Value {
    json!({
        "type": "object",
        "required": ["template", "rows"],
        "additionalProperties": false,
        "properties": {
            "title": {"type": "string", "maxLength": 500},
            "template": {"type": "object", "description": "A job as POST /api/jobs takes it, with places such as {{name}} in its texts. A place that is the whole text becomes what the cell is; {{name:json}} reads a cell of text as JSON."},
            "rows": {"type": "array", "minItems": 1, "maxItems": MAX_JOBS, "items": {"type": "object"}, "description": "A value for every column, row by row. A row that asks for several languages makes a job for each; all rows together make 10,000 jobs and 16 MiB at most; more can follow with `POST /api/groups/{id}/rows`. HeyGen takes about ten jobs at once: give many rows a later `deadline`, and a low `priority` lets other jobs pass."},
            "more": {"type": "boolean", "description": "More rows follow, with `POST /api/groups/{id}/rows`; the group ends only behind the last of them. `POST /api/groups/{id}/cancel` lets it take no more."},
            "ignore": {"type": "array", "items": text(), "description": "Columns that the template does not use, on purpose."},
        },
    })
}

/// The same for a group that is there, which has its title already.
fn more_rows() -> Value {
    let mut rows = new_group();
    if let Some(properties) = rows["properties"].as_object_mut() {
        properties.remove("title");
        let first_row = json!({"type": "integer", "minimum": 1, "description": "The `next_row` of the group: rows that are in already, or whose forerunners are missing, are refused."});
        properties.insert("first_row".to_owned(), first_row);
    }
    rows["required"] = json!(["template", "rows", "first_row"]);
    rows
}
