//! `reelhook key`: API keys of the server. A key's text is shown once, when it is made.

use serde_json::{Value, json};

use super::client::{Session, rows};
use super::output::{Fit, Paint, Shown, cell, field, painted};
use super::units::age;
use super::{Exit, Result, ask, list};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make an API key; its text is shown only now.
    #[command(
        after_help = "Once a key exists, every call needs one.\n\nExamples:\n  reelhook key create backend\n  \
        export REELHOOK_API_KEY=$(reelhook key create ci --json | jq -r .key)"
    )]
    Create {
        /// What it is for.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List API keys.
    #[command(after_help = "Example:\n  reelhook key list")]
    List,
    /// Revoke an API key; calls with it are refused at once.
    #[command(after_help = "Example:\n  reelhook key revoke key_01… --yes")]
    Revoke {
        /// The key's id, not its text; `key list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Create { name } => {
            let key = s.api.post(&["keys"], Some(&json!({"name": name}))).await?;
            s.out.answer(&key, |out| out.paint(&field(&key, "key"), Paint::Bold));
            if s.out.is_table() {
                s.out.note("Keep it: it is shown only now. Set it as REELHOOK_API_KEY.");
            }
        }
        Verb::List => {
            let page = s.api.get(&["keys"], &[]).await?;
            let data = rows(&page)?;
            list::one_page(s, &page, data, table);
        }
        Verb::Revoke { id, yes } => {
            ask::sure(yes, &format!("revoke the API key {id}"))?;
            s.api.delete(&["keys", &id]).await?;
            let answer = json!({"id": id, "revoked": true});
            s.out.answer(&answer, |_| format!("{id} is revoked"));
        }
    }
    Ok(Exit::Ok)
}

fn table(s: &Session, keys: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("KEY", Fit::Whole),
        ("AGE", Fit::Number),
        ("LAST USED", Fit::Number),
        ("STATE", Fit::Whole),
        ("NAME", Fit::Cut),
    ];
    let row = |key: &Value| -> Vec<Shown> {
        let (state, paint) =
            if key["revoked_at"].is_null() { ("live", Paint::Plain) } else { ("revoked", Paint::Dim) };
        vec![
            cell(field(key, "id")),
            cell(field(key, "hint")),
            cell(age(key["created_at"].as_str(), now)),
            cell(age(key["last_used_at"].as_str(), now)),
            painted(state, paint),
            cell(field(key, "name")),
        ]
    };
    s.out.table(&columns, keys.iter().map(row).collect())
}
