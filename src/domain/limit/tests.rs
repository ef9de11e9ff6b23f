//! The upstream limit: how it shrinks and grows, what opens and ends a pause, and when a day is full.

use super::super::time::HOUR;
use super::*;

const NOW: Millis = 20_000 * DAY + 3_600_000;
const DAY_ENDS: Millis = 20_001 * DAY;

fn limit(slots: i64, most_slots: i64) -> Limit {
    Limit { slots, most_slots, ..Limit::default() }
}

fn learn(limit: &mut Limit, answer: Answer, others: i64, at: Millis) {
    limit.learn(answer, others, at, 1.0, at);
}

fn paused(reason: Reason) -> Limit {
    let mut limit = Limit::default();
    limit.block(reason, NOW);
    limit
}

#[test]
fn it_begins_with_ten_and_never_exceeds_the_setting() {
    assert_eq!(Limit::default().bound(NOW), 10);
    let mut limit = Limit::default();
    limit.configure(3, None, None, None);
    assert_eq!(limit.bound(NOW), 3);
    limit.configure(20, None, None, None);
    assert_eq!((limit.slots, limit.bound(NOW)), (3, 4), "what was learned stays, and one more is tried");
    for others in 0..40 {
        learn(&mut limit, Answer::Accepted, others, NOW);
    }
    assert_eq!((limit.slots, limit.bound(NOW)), (20, 20));
}

#[test]
fn too_many_shrinks_it_to_what_upstream_had_and_a_minute_later_one_more_is_tried() {
    let mut limit = limit(10, 10);
    for others in [9, 8, 7, 6, 5, 4, 3] {
        learn(&mut limit, Answer::TooMany { after: Some(2_000) }, others, NOW);
    }
    assert_eq!((limit.slots, limit.bound(NOW)), (3, 3));
    assert_eq!(limit.bound(NOW + GROWS_AFTER - 1), 3);
    assert_eq!(limit.bound(NOW + GROWS_AFTER), 4);
    learn(&mut limit, Answer::TooMany { after: None }, 3, NOW + GROWS_AFTER);
    assert_eq!((limit.slots, limit.bound(NOW + GROWS_AFTER + 1)), (3, 3));
    let later = NOW + 2 * GROWS_AFTER;
    learn(&mut limit, Answer::Accepted, 3, later);
    assert_eq!((limit.slots, limit.bound(later)), (4, 5), "it took one more");
    learn(&mut limit, Answer::TooMany { after: None }, 30, later);
    assert_eq!(limit.slots, 4, "a refusal never grows it");
}

#[test]
fn too_many_of_nothing_leaves_one_slot_and_grows_back_with_each_job_taken() {
    let mut limit = limit(10, 10);
    learn(&mut limit, Answer::TooMany { after: None }, 0, NOW);
    assert_eq!(limit.slots, 1);
    for others in 0..10 {
        learn(&mut limit, Answer::Accepted, others, NOW);
    }
    assert_eq!(limit.bound(NOW), 10);
}

#[test]
fn retry_after_is_obeyed_within_bounds_and_without_it_the_pause_doubles() {
    let held = |answers: &[Answer]| {
        let mut limit = Limit::default();
        for answer in answers {
            learn(&mut limit, *answer, 1, NOW);
        }
        limit.held_until - NOW
    };
    let after = |ms| Answer::TooMany { after: Some(ms) };
    assert_eq!(held(&[after(7_000)]), 7_000);
    assert_eq!(held(&[after(0)]), SECOND);
    assert_eq!(held(&[after(i64::MAX / 2)]), MAX_RETRY_AFTER);
    assert_eq!(held(&[after(9_000), after(2_000)]), 9_000, "the longest counts");
    let bare = Answer::TooMany { after: None };
    assert_eq!([held(&[bare; 1]), held(&[bare; 3]), held(&[bare; 99])], [2_000, 8_000, 60_000]);
    assert_eq!([held(&[Answer::NotSent; 1]), held(&[Answer::NotSent; 2])], [2_000, 4_000]);
    assert_eq!(held(&[Answer::NotSent; 99]), 4_000, "then it is down, which only a look ends");
    assert_eq!(held(&[Answer::NotSent, Answer::Accepted, Answer::NotSent]), 2_000);
    assert_eq!(held(&[Answer::Other]), -NOW);
}

#[test]
fn a_clock_put_back_makes_nobody_wait_longer_than_was_meant() {
    let mut limit = limit(5, 10);
    learn(&mut limit, Answer::TooMany { after: Some(MAX_RETRY_AFTER) }, 3, NOW);
    assert!(limit.wait(NOW).is_some() && limit.bound(NOW) == 3);
    assert!(limit.wait(NOW - DAY).is_none() && limit.bound(NOW - DAY) == 4);
    limit.resume(NOW);
    learn(&mut limit, Answer::Blocked(Reason::HeygenKeyRefused), 0, NOW - DAY);
    assert_eq!(limit.pause, None, "not believed");
    assert!(limit.wait(NOW - DAY).is_some(), "but nor is the next one sent at once");
}

#[test]
fn room_is_what_is_free_opened_and_left_of_the_day() {
    let mut limit = limit(5, 5);
    assert_eq!((limit.room(0, 0, NOW), limit.room(3, 1, NOW), limit.room(9, 9, NOW)), (5, 1, 0));
    limit.daily_jobs = Some(2);
    assert_eq!((limit.room(0, 0, NOW), limit.room(0, 1, NOW), limit.room(0, 2, NOW)), (2, 1, 0));
    limit.held_until = NOW + 1;
    assert_eq!((limit.room(0, 0, NOW), limit.room(0, 0, NOW + 1)), (0, 2));
    assert_eq!(limit.wait(NOW).map(|w| (w.reason, w.until)), Some(("held_by_heygen", Some(NOW + 1))));
    assert_eq!(limit.wait(NOW + 1), None);
}

#[test]
fn a_full_day_waits_for_midnight_utc() {
    let mut limit = Limit { daily_jobs: Some(2), ..Limit::default() };
    assert!(!limit.count(NOW));
    assert_eq!(limit.wait(NOW), None);
    limit.count(NOW);
    assert_eq!(limit.wait(NOW).map(|w| (w.reason, w.until)), Some(("daily_jobs", Some(DAY_ENDS))));
    assert_eq!((limit.room(0, 0, DAY_ENDS - 1), limit.room(0, 0, DAY_ENDS)), (0, 2));
    limit.uncount(NOW);
    assert_eq!(limit.room(0, 0, NOW), 1, "what was refused does not count");
    limit.count(DAY_ENDS);
    limit.uncount(NOW);
    assert_eq!(limit.today_at(DAY_ENDS).jobs, 1, "what yesterday counted is not taken from today");
    limit.uncount(DAY_ENDS);
    limit.uncount(DAY_ENDS);
    assert_eq!(limit.today.jobs, 0);
}

#[test]
fn credits_of_a_day_are_what_the_balance_fell() {
    let mut limit = Limit { daily_credits: Some(5_000), ..Limit::default() };
    assert!(limit.wants_look());
    limit.looked(Some(100_000), NOW);
    limit.looked(Some(97_000), NOW + 1);
    limit.looked(Some(200_000), NOW + 2);
    assert_eq!((limit.today.spent, limit.wait(NOW + 2)), (3_000, None), "a top-up is nothing spent");
    limit.looked(Some(198_000), NOW + 3);
    assert_eq!(limit.wait(NOW + 3).map(|w| (w.reason, w.until)), Some(("daily_credits", Some(DAY_ENDS))));
    limit.looked(Some(150_000), DAY_ENDS);
    assert_eq!((limit.today.spent, limit.wait(DAY_ENDS)), (0, None), "spent since a look of another day");
}

#[test]
fn a_cap_that_cannot_be_kept_pauses_and_says_so() {
    let mut limit = Limit { daily_credits: Some(5_000), ..Limit::default() };
    limit.looked(None, NOW);
    assert_eq!(limit.wait(NOW).map(|w| w.reason), Some("balance_not_told"));
    limit.looked(None, NOW);
    assert!(limit.pause.is_some());
    limit.looked(Some(1), NOW);
    assert_eq!(limit.pause, None);
    limit.looked(None, NOW);
    limit.configure(10, None, None, None);
    limit.looked(None, NOW);
    assert_eq!(limit.pause, None, "without the cap there is nothing to keep");
}

#[test]
fn a_look_that_finds_nothing_wrong_lets_one_job_find_out() {
    for reason in [Reason::HeygenKeyRefused, Reason::NotHeygen, Reason::OutOfCredit] {
        let mut limit = paused(reason);
        assert!(limit.wants_look());
        assert_eq!(limit.room(0, 0, NOW), 0);
        limit.looked(Some(1), NOW + 10);
        assert_eq!((limit.room(0, 0, NOW + 10), limit.room(0, 1, NOW + 10)), (1, 0), "{reason:?}");
        assert!(!limit.wants_look(), "the job tells more than a look");
        assert!(limit.count(NOW + 10));
        assert_eq!((limit.room(1, 0, NOW + 10), limit.wants_look()), (0, true), "and only one");
        learn(&mut limit, Answer::Blocked(reason), 0, NOW + 10);
        let since = limit.pause.as_ref().map(|p| (p.since, p.opened));
        assert_eq!(since, Some((NOW, false)), "the same pause goes on");
        limit.learn(Answer::Accepted, 0, NOW - 1, 1.0, NOW + 20);
        assert!(limit.pause.is_some(), "what was sent before the pause proves nothing");
        limit.learn(Answer::Accepted, 0, NOW + 10, 1.0, NOW + 20);
        assert_eq!((limit.pause.clone(), limit.room(1, 0, NOW + 20)), (None, 9));
    }
}

#[test]
fn an_empty_wallet_lets_nobody_try() {
    let mut limit = paused(Reason::OutOfCredit);
    for (balance, opened) in [(Some(0), false), (Some(-1), false), (Some(1), true), (None, true)] {
        limit.looked(balance, NOW);
        assert_eq!(limit.pause.as_ref().map(|p| p.opened), Some(opened), "{balance:?}");
    }
}

#[test]
fn jobs_that_fail_for_credit_wait_for_a_higher_balance_or_a_person() {
    let mut limit = paused(Reason::JobsFailForCredit);
    for balance in [None, Some(7), Some(3), Some(7), None] {
        limit.looked(balance, NOW + 1);
        learn(&mut limit, Answer::Accepted, 0, NOW + 2);
        assert_eq!(limit.room(0, 0, NOW + 2), 0, "{balance:?}: none is burned to find out");
    }
    learn(&mut limit, Answer::Blocked(Reason::OutOfCredit), 0, NOW + 3);
    assert_eq!(limit.pause.as_ref().map(|p| p.reason), Some(Reason::JobsFailForCredit));
    limit.looked(Some(8), NOW + 5);
    assert_eq!(limit.pause, None);
    limit.learn(Answer::Blocked(Reason::JobsFailForCredit), 0, NOW + 4, 1.0, NOW + 6);
    assert_eq!(limit.pause, None, "one that was sent before the top-up says nothing of now");
    limit.learn(Answer::Blocked(Reason::JobsFailForCredit), 0, NOW + 5, 1.0, NOW + 6);
    assert!(limit.pause.is_some());
    assert!(limit.resume(NOW + 7) && !limit.resume(NOW + 7));
}

#[test]
fn a_persons_pause_is_ended_by_a_person() {
    let mut limit = paused(Reason::OutOfCredit);
    limit.pause_by("key_1", Some("budget".to_owned()), NOW + 1);
    let pause = limit.pause.clone().unwrap();
    assert_eq!((pause.reason, pause.since), (Reason::Operator, NOW + 1));
    assert_eq!((pause.by.as_deref(), pause.note.as_deref()), (Some("key_1"), Some("budget")));
    limit.looked(Some(1_000), NOW + 2);
    learn(&mut limit, Answer::Accepted, 0, NOW + 3);
    learn(&mut limit, Answer::Blocked(Reason::HeygenKeyRefused), 0, NOW + 3);
    assert!(!limit.wants_look());
    assert_eq!(limit.pause, Some(pause));
    assert!(limit.resume(NOW + 4));
    assert_eq!(limit.room(0, 0, NOW + 4), 10);
}

#[test]
fn a_newer_trouble_takes_the_place_of_an_older_one() {
    let mut limit = paused(Reason::HeygenKeyRefused);
    limit.block(Reason::OutOfCredit, NOW + 1);
    assert_eq!(limit.pause.as_ref().map(|p| (p.reason, p.since)), Some((Reason::OutOfCredit, NOW + 1)));
    limit.block(Reason::JobsFailForCredit, NOW + 2);
    limit.block(Reason::HeygenKeyRefused, NOW + 3);
    assert_eq!(limit.pause.as_ref().map(|p| p.since), Some(NOW + 2));
    let mut keyless = paused(Reason::NoHeygenKey);
    keyless.block(Reason::HeygenKeyRefused, NOW + 1);
    keyless.looked(Some(1), NOW + 1);
    assert_eq!(keyless.pause.map(|p| (p.reason, p.opened)), Some((Reason::NoHeygenKey, false)));
}

#[test]
fn it_reads_back_as_it_was_written_and_an_empty_one_is_new() {
    let mut limit = Limit { daily_jobs: Some(3), balance: Some((5, 6)), ..Limit::default() };
    limit.count(NOW);
    for reason in Reason::ALL {
        limit.pause = Some(Pause::new(*reason, NOW));
        let text = serde_json::to_string(&limit).unwrap();
        assert!(text.contains(reason.name()), "{text}");
        assert_eq!(serde_json::from_str::<Limit>(&text).unwrap(), limit);
    }
    assert_eq!(serde_json::from_str::<Limit>("{}").unwrap(), Limit::default());
}

#[test]
fn a_hold_lasts_as_long_when_the_clock_is_set() {
    for by in [-HOUR, HOUR] {
        let mut limit = limit(10, 10);
        learn(&mut limit, Answer::NotSent, 0, NOW);
        assert_eq!((limit.room(0, 0, NOW + 1_999), limit.room(0, 0, NOW + 2_000)), (0, 10));
        limit.shift(by, NOW);
        assert_eq!((limit.room(0, 0, NOW + by + 1_999), limit.room(0, 0, NOW + by + 2_000)), (0, 10), "{by}");
    }
    let mut since = limit(10, 10);
    learn(&mut since, Answer::NotSent, 0, NOW + HOUR);
    since.shift(HOUR, NOW);
    assert_eq!(since.room(0, 0, NOW + HOUR + 2_000), 10, "held since, by the clock as it is");
}

const OPEN: Answer = Answer::Unanswered { repeats: true };

#[test]
fn after_three_silences_upstream_is_down_until_it_answers() {
    for silences in [[OPEN; 3], [Answer::NotSent; 3], [Answer::AskUnanswered; 3]] {
        let mut limit = limit(10, 10);
        for silence in &silences[..2] {
            learn(&mut limit, *silence, 0, NOW);
        }
        assert!(!limit.wants_look() && limit.down_since.is_none());
        learn(&mut limit, silences[2], 0, NOW);
        assert_eq!(limit.wait(NOW + HOUR).map(|w| (w.reason, w.until)), Some(("heygen_down", None)));
        assert_eq!((limit.room(0, 0, NOW + HOUR), limit.wants_look()), (0, true));
        assert_eq!(limit.next_look(NOW), NOW + LOOK_WHILE_DOWN);
        assert!(limit.answered() && !limit.answered(), "news once");
        assert_eq!((limit.wait(NOW + HOUR), limit.wants_look()), (None, false));
        assert_eq!(limit.next_look(NOW), NOW + LOOK_EVERY);
    }
    let mut limit = limit(10, 10);
    for _ in 0..9 {
        learn(&mut limit, OPEN, 0, NOW);
        limit.answered();
    }
    assert_eq!(limit.down_since, None, "not in a row");
}

#[test]
fn what_may_not_be_repeated_is_not_risked_a_second_time() {
    let mut limit = limit(10, 10);
    learn(&mut limit, Answer::Unanswered { repeats: false }, 0, NOW);
    assert_eq!((limit.room(0, 0, NOW), limit.wants_look()), (0, true));
}

#[test]
fn one_lost_answer_holds_nothing_and_more_let_one_at_a_time_find_out() {
    let mut limit = limit(10, 10);
    // Ten under way together are one miss.
    for _ in 0..10 {
        limit.learn(OPEN, 9, NOW - 1, 1.0, NOW);
        limit.answered();
    }
    assert_eq!((limit.misses, limit.room(0, 0, NOW)), (1, 10));
    learn(&mut limit, OPEN, 9, NOW);
    limit.answered();
    assert_eq!((limit.room(0, 0, NOW + 3_999), limit.room(0, 0, NOW + 4_000)), (0, 1));
    assert_eq!(limit.room(0, 1, NOW + 4_000), 0);
    learn(&mut limit, Answer::Accepted, 0, NOW + 4_000);
    assert_eq!(limit.room(0, 0, NOW + 4_000), 10);
}

fn least(least: Milli) -> Limit {
    let mut limit = Limit::default();
    limit.configure(10, None, None, Some(least));
    limit
}

fn held_by(limit: &Limit, now: Millis) -> Option<&'static str> {
    limit.wait(now).map(|wait| wait.reason)
}

#[test]
fn with_a_balance_below_the_least_nothing_is_sent_and_with_the_least_it_goes_on() {
    let mut limit = least(5_000);
    for (balance, held) in [(4_999, Some("least_credits")), (5_000, None), (-1, Some("least_credits"))] {
        limit.looked(Some(balance), NOW);
        assert_eq!((held_by(&limit, NOW), limit.room(0, 0, NOW) == 0), (held, held.is_some()), "{balance}");
    }
    assert!(!limit.resume(NOW), "it is no pause that somebody could end");
    assert_eq!(held_by(&limit, NOW), Some("least_credits"));
    limit.configure(10, None, None, None);
    assert_eq!((held_by(&limit, NOW), limit.wants_look()), (None, false), "nothing set, nothing asked");
}

#[test]
fn the_least_balance_must_have_been_seen_since_the_start_and_lately() {
    let mut limit = least(5_000);
    assert!(limit.wants_look());
    assert_eq!(held_by(&limit, NOW), Some("balance_not_seen"));
    limit.looked(Some(9_000), NOW);
    for (now, held) in [
        (NOW + BALANCE_COUNTS_FOR, None),
        (NOW + BALANCE_COUNTS_FOR + 1, Some("balance_not_seen")),
        (NOW - BALANCE_COUNTS_FOR, None),
        (NOW - BALANCE_COUNTS_FOR - 1, Some("balance_not_seen")),
    ] {
        assert_eq!(held_by(&limit, now), held, "{}", now - NOW);
    }
    limit.configure(10, None, None, Some(5_000));
    assert_eq!(held_by(&limit, NOW), Some("balance_not_seen"), "the key may be another account's now");
    limit.looked(Some(9_000), NOW);
    assert_eq!(held_by(&limit, NOW), None);
}

#[test]
fn a_balance_that_is_not_told_pauses_whoever_wants_a_least_one() {
    let mut limit = least(5_000);
    limit.looked(None, NOW);
    assert_eq!(held_by(&limit, NOW), Some("balance_not_told"));
    limit.looked(Some(5_000), NOW);
    assert_eq!(held_by(&limit, NOW), None);
}

#[test]
fn every_reason_that_is_no_pause_is_listed() {
    let down = Limit { down_since: Some(NOW), ..Limit::default() };
    let jobs = Limit { daily_jobs: Some(0), ..Limit::default() };
    let spent = Limit { daily_credits: Some(0), ..Limit::default() };
    let mut low = least(5_000);
    low.looked(Some(0), NOW);
    let held = Limit { held_until: NOW + 1, ..Limit::default() };
    let all = [down, jobs, spent, least(1), low, held].map(|limit| held_by(&limit, NOW));
    assert_eq!(all, WAITS.map(Some));
}
