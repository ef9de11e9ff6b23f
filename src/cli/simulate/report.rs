//! What a run tells: each answer while there are few, a bar while there are many, and a summary.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::load::{Load, Told};
use super::tally::Tally;
use super::{Args, Session};
use crate::cli::output::{Format, Paint, clean, shorten, wrapped};
use crate::cli::{CliError, Exit, Result};

/// A longer name of an event is cut.
const LONGEST_NAME: usize = 34;
const REDRAW: Duration = Duration::from_millis(200);

/// Tells the answers one by one, or draws a bar, until the work is done. Returns the answers.
pub async fn follow<T>(s: &Session, load: &Load, told: super::Told, work: &JoinHandle<T>) -> Vec<Value> {
    let mut answers = vec![];
    if let Some(mut told) = told {
        let wanted = load.shape.count.unwrap_or(0).saturating_mul(load.plan.copies);
        for _ in 0..wanted {
            let one = tokio::select! {
                one = told.recv() => one,
                // Some are dropped, or it was interrupted: what is already told is read below.
                () = ended(s, work) => told.try_recv().ok(),
            };
            let Some(one) = one else { break };
            tell(s, load, &one, &mut answers);
        }
        return answers;
    }
    let bar = bar(s, load);
    while !work.is_finished() {
        if let Some(bar) = &bar {
            bar.set_position(load.done.load(Ordering::Relaxed));
        }
        s.clock.sleep(REDRAW.min(Duration::from_millis(50))).await;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    answers
}

async fn ended<T>(s: &Session, work: &JoinHandle<T>) {
    while !work.is_finished() {
        s.clock.sleep(Duration::from_millis(20)).await;
    }
}

fn bar(s: &Session, load: &Load) -> Option<ProgressBar> {
    if s.out.quiet || !std::io::stderr().is_terminal() {
        return None;
    }
    let (bar, template) = match load.shape.count {
        Some(count) => (
            ProgressBar::new(count.saturating_mul(load.plan.copies)),
            "{bar:24} {pos}/{len}  {elapsed}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} answered  {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    Some(bar)
}

fn tell(s: &Session, load: &Load, one: &Told, answers: &mut Vec<Value>) {
    let name = &load.maker.template(one.message).name;
    let ms = (one.latency.as_secs_f64() * 100_000.0).round() / 100.0;
    let (status, said) = match &one.outcome {
        Ok((status, body)) => (json!(status), said(body)),
        Err(why) => (Value::Null, why.clone()),
    };
    let line = json!({"message": one.message, "name": name, "status": status, "ms": ms, "said": said});
    match s.out.format {
        Format::Ndjson => s.out.text(&line.to_string()),
        Format::Table => {
            let good = matches!(&one.outcome, Ok((200..=299, _)));
            let status = status.as_u64().map_or("---".to_owned(), |code| code.to_string());
            let status = s.out.paint(&status, if good { Paint::Good } else { Paint::Bad });
            let names = load.maker.templates.iter().map(|t| t.name.chars().count());
            let widest = names.max().unwrap_or(0).min(LONGEST_NAME);
            let said = wrapped(&said, s.out.width.into(), widest + 20);
            let line = format!("{status}  {ms:>8.2} ms  {:widest$}  {said}", shorten(name, widest));
            s.out.text(line.trim_end());
        }
        Format::Json => {}
    }
    answers.push(line);
}

/// What an answer says beyond its status: the title of a problem, or its first words.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let problem: Option<Value> = serde_json::from_str(&text).ok();
    let word = |name: &str| problem.as_ref().and_then(|p| p[name].as_str()).map(str::to_owned);
    let said = word("detail").or_else(|| word("title")).unwrap_or_else(|| shorten(text.trim(), 200));
    clean(&said)
}

pub fn finish(
    s: &Session,
    load: &Load,
    args: &Args,
    tally: &Tally,
    seconds: f64,
    answers: Vec<Value>,
) -> Result<Exit> {
    let mut report = json!({"to": load.shown});
    if let (Some(all), Value::Object(figures)) = (report.as_object_mut(), tally.json(seconds)) {
        all.extend(figures);
        if load.told.is_some() {
            all.insert("answers".to_owned(), Value::Array(answers));
        }
    }
    match s.out.format {
        // One answer was told already.
        Format::Table if tally.sent() == 1 && load.told.is_some() => {}
        Format::Table => s.out.text(&summary(s, tally, seconds)),
        Format::Json => s.out.text(&format!("{report:#}")),
        Format::Ndjson => {
            if let Some(all) = report.as_object_mut() {
                all.remove("answers");
            }
            s.out.text(&report.to_string());
        }
    }
    if load.stop.load(Ordering::Relaxed) {
        return Err(CliError::new(
            Exit::Interrupted,
            "cli_interrupted",
            "interrupted; the figures are of what was sent",
            None,
        ));
    }
    verdict(load, args, tally)
}

fn summary(s: &Session, tally: &Tally, seconds: f64) -> String {
    let statuses: Vec<String> = tally
        .statuses()
        .map(|(status, n)| {
            let paint = if (200..300).contains(&status) { Paint::Good } else { Paint::Bad };
            format!("{} × {n}", s.out.paint(&status.to_string(), paint))
        })
        .collect();
    let faults: Vec<String> = tally.fault_words().map(|(why, n)| format!("{} × {n}", clean(why))).collect();
    let pace = if seconds > 0.0 { tally.answers() as f64 / seconds } else { 0.0 };
    let latency = (tally.answers() > 0).then(|| {
        let (p50, p99) = (tally.quantile_ms(0.5), tally.quantile_ms(0.99));
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {:.2} ms", tally.max_ms())
    });
    s.out.pairs(&[
        ("sent", format!("{} in {seconds:.2} s, {pace:.0} a second", tally.sent())),
        ("answers", statuses.join(", ")),
        ("no answer", faults.join(", ")),
        ("latency", latency.unwrap_or_default()),
    ])
}

/// Whether the receiver did what a good one does.
fn verdict(load: &Load, args: &Args, tally: &Tally) -> Result<Exit> {
    let count =
        |wanted: fn(u16) -> bool| tally.statuses().filter(|(s, _)| wanted(*s)).map(|(_, n)| n).sum::<u64>();
    let (taken, refused) = (count(|s| (200..300).contains(&s)), count(|s| (400..500).contains(&s)));
    let fail =
        |code: &str, why: String, hint: Option<&str>| Err(CliError::new(Exit::Failure, code, why, hint));
    if tally.faults() > 0 {
        let hint = "is something listening there? `reelhook serve` or `reelhook demo` starts a receiver";
        let why = format!("{} of {} got no answer from {}", tally.faults(), tally.sent(), load.shown);
        return fail("cli_no_answer", why, Some(hint));
    }
    let other = tally.answers() - taken;
    match () {
        () if args.forge && taken > 0 => fail(
            "cli_forgery_taken",
            format!("{taken} forged webhook(s) were answered 2xx"),
            Some("the receiver does not check the signature, or answers before it does"),
        ),
        () if (args.forge || args.unsigned) && taken + refused == tally.answers() => Ok(Exit::Ok),
        () if other > 0 => fail(
            "cli_refused",
            format!("{other} of {} were not answered 2xx", tally.answers()),
            Some("401 means that the receiver has another secret; 503, that it has none or is busy"),
        ),
        () => Ok(Exit::Ok),
    }
}
