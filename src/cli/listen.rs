//! `reelhook listen`: the events of a reelhook elsewhere, handed to a receiver on this machine.
//!
//! It follows the stream from a position it keeps, and moves on only when the receiver was reached: what happens
//! while this machine sleeps, or while nobody listens at the receiver's address, waits.

mod forward;
mod kept;
mod keys;

use std::time::Duration;

use serde_json::Value;

use self::forward::{Came, Parcel};
use self::kept::{Kept, What};
use self::keys::Keys;
use super::client::{Flags, Session, client_to, is_retryable};
use super::output::{Paint, clean, field, wrapped};
use super::serve::stop_signal;
use super::{CliError, Exit, Result};
use crate::config::{Given, web_url};
use crate::domain::time::{Millis, SECOND};
use crate::net::{self, Reading};

/// The server says something every 5 s; after so long without a word the connection is dead, as it is after
/// a sleep. With a tick, nobody is left believing in a dead line for more than 15 s.
const SILENCE: Millis = 12 * SECOND;
/// How often that is looked at.
const TICK: Duration = Duration::from_secs(3);
/// Between two tries to reach the server, or the receiver.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Where the second line of an event begins.
const INDENT: usize = 10;

/// Hand the events of a reelhook elsewhere to a receiver on this machine; what comes while it sleeps, waits.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  reelhook listen --url https://reelhook.example.com --forward-to http://localhost:3000/webhooks\n  \
                  reelhook listen --events 'heygen.*' --forward-to http://localhost:3000/heygen\n  \
                  reelhook listen --since 1h\n  export WEBHOOK_SECRET=$(reelhook listen --print-secret)\n\n\
                  On a terminal: r sends the last one again, d shows it whole, o opens it, q ends."
)]
pub struct Args {
    /// Where the receiver is; without it events are only shown.
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    /// Types and families, with commas: job.completed, job.*, heygen.* as HeyGen sent them, or * for all but HeyGen's own.
    #[arg(long, value_name = "EVENTS", default_value = "*")]
    events: String,
    /// Begin behind an event's number, at a time, a span such as 10m ago, or with `all` [default: where it was left, else now].
    #[arg(long, value_name = "WHERE")]
    since: Option<String>,
    /// Print the secret that our own events are signed with here, and end.
    #[arg(long)]
    print_secret: bool,
    #[command(flatten)]
    flags: Flags,
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    let kept = Kept::open(given, &s.clock)?;
    if args.print_secret {
        s.out.text(&kept.secret.secret);
        return Ok(Exit::Ok);
    }
    let receiver = match &args.forward_to {
        Some(to) => {
            let wrong = |why| CliError::usage(format!("--forward-to is `{to}`, but {why}"));
            client_to(&web_url(to).map_err(wrong)?, given, s.clock.clone(), false)?
        }
        None => net::Client::new(s.clock.clone(), false),
    };
    let what = What {
        server: s.api.server().to_owned(),
        forward_to: args.forward_to.clone(),
        events: args.events.clone(),
    };
    let position = if args.since.is_some() { None } else { kept.position(&what) };
    let mut listener = Listener {
        receiver,
        keys: Keys::start(),
        since: args.since,
        position,
        log: String::new(),
        last: None,
        waited: 0,
        s,
        kept,
        what,
    };
    listener.introduce();
    let mut stop = stop_signal();
    tokio::select! {
        done = listener.run() => done,
        // By both the terminal is left as it was.
        _ = stop.wait_for(|stopped| *stopped) => Ok(Exit::Interrupted),
    }
}

struct Listener {
    s: Session,
    kept: Kept,
    what: What,
    receiver: net::Client,
    keys: Option<Keys>,
    /// Where to begin, until a position is known.
    since: Option<String>,
    position: Option<String>,
    /// The server's name of its log.
    log: String,
    last: Option<Parcel>,
    /// Events told since the stream was opened that were there before.
    waited: usize,
}

/// Why a connection is not read any more.
enum End {
    Quit,
    Lost(String),
}

impl Listener {
    fn introduce(&self) {
        let (out, what) = (&self.s.out, &self.what);
        let from = match &self.position {
            Some(position) => format!(", from where it was left, behind event {}", number_of(position)),
            None => self.since.as_ref().map_or(String::new(), |since| format!(", since {since}")),
        };
        out.note(&format!("events {} of {}{from}", what.events, what.server));
        if let Some(to) = &what.forward_to {
            out.note(&format!("go to {to}, signed with the secret that ends in {}", self.kept.secret.hint()));
        }
        if !self.kept.is_lasting() {
            out.note("neither HOME nor XDG_STATE_HOME is set: position and secret last for this run");
        }
    }

    async fn run(&mut self) -> Result<Exit> {
        let (mut was_open, mut pause) = (false, FIRST_PAUSE);
        loop {
            let why = match self.open().await {
                Ok(mut stream) => {
                    (was_open, pause) = (true, FIRST_PAUSE);
                    match self.follow(&mut stream).await? {
                        End::Quit => return Ok(Exit::Ok),
                        End::Lost(why) => why,
                    }
                }
                // A first try that reaches nobody is a mistake to be told; later ones are patient.
                Err(e) if is_retryable(&e) || was_open && may_pass(&e) => field(&e.problem, "detail"),
                Err(e) => return Err(e),
            };
            self.s.out.note(&format!("not connected ({why}); trying again in {} s", pause.as_secs()));
            if self.pause(pause).await {
                return Ok(Exit::Ok);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(&self) -> Result<Reading> {
        let mut query = vec![("events", self.what.events.clone())];
        let since = self.position.clone().or(self.since.clone());
        query.extend(since.map(|since| ("since", since)));
        self.s.api.follow(&["stream"], &query).await
    }

    async fn follow(&mut self, stream: &mut Reading) -> Result<End> {
        let clock = self.s.clock.clone();
        let mut heard_at = clock.now();
        self.waited = 0;
        loop {
            let line = tokio::select! {
                line = stream.line() => line,
                key = pressed(&mut self.keys) => {
                    if self.press(key).await {
                        return Ok(End::Quit);
                    }
                    continue;
                }
                () = clock.sleep(TICK) => {
                    // By the clock on the wall, which goes on while the machine sleeps.
                    if clock.now() - heard_at > SILENCE {
                        return Ok(End::Lost("nothing is heard any more".to_owned()));
                    }
                    continue;
                }
            };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(End::Lost("the server closed the connection".to_owned())),
                Err(fault) => return Ok(End::Lost(fault.to_string())),
            };
            let told: Value = serde_json::from_slice(&line)
                .map_err(|e| CliError::failure(format!("the server told what is no JSON: {e}")))?;
            match self.take(told).await {
                Ok(true) => return Ok(End::Quit),
                Ok(false) => {}
                Err(e) if may_pass(&e) => return Ok(End::Lost(field(&e.problem, "detail"))),
                Err(e) => return Err(e),
            }
            heard_at = clock.now();
        }
    }

    /// What the stream told. True at the end.
    async fn take(&mut self, told: Value) -> Result<bool> {
        let at = told["position"].as_i64();
        match told["type"].as_str().unwrap_or_default() {
            "keepalive" => {}
            "snapshot" => {
                self.log = field(&told, "log");
                self.keep(at)?;
            }
            "gap" => {
                let asked = field(&told, "asked");
                let missed =
                    format!("the server's log has nothing at event {asked}, no longer or not in this one");
                self.s.out.note(&format!("{missed}: going on behind event {}", field(&told, "position")));
            }
            "live" => {
                self.keep(at)?;
                let waited = match self.waited {
                    0 => "nothing was waiting".to_owned(),
                    1 => "one event was waiting".to_owned(),
                    n => format!("{n} events were waiting"),
                };
                let keys = if self.keys.is_some() { "; r resend, d details, o open, q quit" } else { "" };
                self.s.out.note(&format!("ready: {waited}{keys}"));
            }
            _ => {
                self.waited += 1;
                let number = told["number"].as_i64();
                if self.hand_over(told).await? {
                    return Ok(true);
                }
                self.keep(number)?;
            }
        }
        Ok(false)
    }

    fn keep(&mut self, number: Option<i64>) -> Result<()> {
        let Some(position) = number.map(|number| format!("{}.{number}", self.log)) else { return Ok(()) };
        if self.position.as_ref() != Some(&position) {
            self.kept.keep(&self.what, &position)?;
            self.position = Some(position);
        }
        Ok(())
    }

    /// True when it is to end before the receiver was reached.
    async fn hand_over(&mut self, told: Value) -> Result<bool> {
        let mut parcel = Parcel::new(&self.s, told).await?;
        if self.s.out.is_table() {
            self.s.out.text(&self.headline(&parcel));
        }
        let mut pause = FIRST_PAUSE;
        while let Some(to) = self.what.forward_to.clone() {
            match self.send(&mut parcel, &to).await {
                None => return Ok(true),
                Some(true) => break,
                Some(false) => {}
            }
            if pause == FIRST_PAUSE {
                let why = parcel.came.as_ref().and_then(|came| came.error.clone()).unwrap_or_default();
                self.s.out.note(&format!("nobody is at {to} ({why}); this and what follows waits"));
            }
            if self.pause(pause).await {
                return Ok(true);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.show(&parcel);
        self.last = Some(parcel);
        Ok(false)
    }

    /// Whether the receiver was reached; none when it is to end before its answer.
    async fn send(&mut self, parcel: &mut Parcel, to: &str) -> Option<bool> {
        let Self { receiver, s, kept, keys, .. } = self;
        let mut sent = std::pin::pin!(parcel.send(to, receiver, &s.clock, &kept.secret));
        loop {
            tokio::select! {
                reached = &mut sent => return Some(reached),
                // Of all keys only this one does not wait for it.
                key = pressed(keys) => if key == 'q' {
                    return None;
                },
            }
        }
    }

    /// Waits, but for keys. True when it is to end.
    async fn pause(&mut self, pause: Duration) -> bool {
        let clock = self.s.clock.clone();
        let until = clock.now() + i64::try_from(pause.as_millis()).unwrap_or(0);
        loop {
            tokio::select! {
                () = clock.sleep_until(until) => return false,
                key = pressed(&mut self.keys) => if self.press(key).await {
                    return true;
                },
            }
        }
    }

    /// True for the key that ends.
    async fn press(&mut self, key: char) -> bool {
        if key == 'q' {
            return true;
        }
        let Some(mut last) = self.last.take() else { return false };
        match key {
            'r' => {
                if let Some(to) = self.what.forward_to.clone() {
                    if self.send(&mut last, &to).await.is_none() {
                        return true;
                    }
                    self.s.out.note(&format!("again: {}", field(&last.event, "type")));
                    self.show(&last);
                }
            }
            'd' => self.s.out.text(&cleaned(&last.page(&self.s.clock, &self.kept.secret))),
            'o' => self.show_in_browser(&last.event).await,
            _ => {}
        }
        self.last = Some(last);
        false
    }

    async fn show_in_browser(&self, event: &Value) {
        let mut query = vec![];
        let path = match (event["job_id"].as_str(), event["receipt_id"].as_str()) {
            (Some(job), _) => {
                // A browser has no API key. Without a token the page says what is missing.
                let link = self.s.api.post(&["jobs", job, "link-token"], None).await;
                query.extend(link.ok().map(|link| ("token", field(&link, "token"))));
                ["jobs", job]
            }
            (None, Some(receipt)) => ["receipts", receipt],
            (None, None) => ["events", event["id"].as_str().unwrap_or_default()],
        };
        let url = self.s.api.url(&path, &query);
        let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        let quiet = std::process::Stdio::null;
        let opened = std::process::Command::new(opener).arg(&url).stdout(quiet()).stderr(quiet()).spawn();
        let how = if opened.is_ok() { "opening" } else { "open it yourself:" };
        self.s.out.note(&format!("{how} {url}"));
    }

    /// When, what, about which job.
    fn headline(&self, parcel: &Parcel) -> String {
        let (out, event) = (&self.s.out, &parcel.event);
        let at = field(event, "created_at");
        let at = at.get(11..19).unwrap_or_default();
        let about = ["job_id", "receipt_id", "id"].map(|name| field(event, name));
        let about = about.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        let name = out.paint(&format!("{:26}", field(event, "type")), Paint::Bold);
        let mut text = format!("{at}  {name}  {about}\n");
        for (nth, step) in parcel.steps().into_iter().enumerate() {
            let step = wrapped(&clean(step), out.width.into(), INDENT + 3);
            text += &format!("{:INDENT$}{}. {step}\n", "", nth + 1);
        }
        text
    }

    /// What came of it; for programs, all of it.
    fn show(&self, parcel: &Parcel) {
        if !self.s.out.is_table() {
            self.s.out.text(&parcel.json().to_string());
        } else if let Some(came) = &parcel.came {
            self.s.out.text(&format!("{:INDENT$}{}", "", self.answer(came)));
        }
    }

    fn answer(&self, came: &Came) -> String {
        let paint = if came.is_taken() { Paint::Good } else { Paint::Bad };
        let what = match (came.status, &came.error) {
            (Some(status), _) => format!("{status} in {} ms", came.took_ms),
            (None, error) => error.clone().unwrap_or_default(),
        };
        let is_mute = came.is_taken() || came.answer.is_empty();
        let words = if is_mute { what } else { format!("{what}: {}", came.answer) };
        self.s.out.paint(&wrapped(&clean(&words), self.s.out.width.into(), INDENT), paint)
    }
}

fn may_pass(e: &CliError) -> bool {
    is_retryable(e) || e.problem["code"] == "cli_no_server"
}

/// The next key, if there are any.
async fn pressed(keys: &mut Option<Keys>) -> char {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

fn cleaned(text: &str) -> String {
    text.lines().map(|line| format!("  {}", clean(line)).trim_end().to_owned() + "\n").collect()
}

/// Of `LOG.NUMBER`.
fn number_of(position: &str) -> &str {
    position.rsplit_once('.').map_or(position, |(_, number)| number)
}
