//! How a run leaves its task, decided under a lock on it, by what is stored by then: what is due to a target that is
//! sent to always has a task that says when. Sends nothing.

use super::parcel::{find, is_closed};
use crate::domain::delivery::Target;
use crate::domain::task::{Claimed, Outcome, TaskKind};
use crate::domain::time::Millis;
use crate::store::{self, Tx, delivery, task};

/// What a record of attempts found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The lease was lost, and nothing is written.
    Lost,
    /// More is to be sent, or the endpoint to be disabled.
    GoOn { overdue: bool },
    /// The task is settled.
    Over,
}

/// How a run leaves its task.
pub(super) struct Leave {
    /// It would send what is due by now.
    pub may_go_on: bool,
    /// Nobody is there, or wants to be left alone.
    pub put_off: Option<Outcome>,
}

impl Leave {
    /// The task is gone, or due when the next delivery is; or later, when nobody is there.
    pub fn settle(&self, tx: &mut Tx, task: &Claimed, target: &Target, now: Millis) -> store::Result<Found> {
        // From here to the commit nobody can make something due and find the task still there.
        if !task::hold(tx, task)? {
            return Ok(Found::Lost);
        }
        // As it is now: it may have been enabled since the run saw that it is closed, and was not woken for it.
        let closed = is_closed(target, find(tx, target)?.as_ref());
        let next = delivery::next_due(tx, target)?.filter(|_| !closed);
        if self.may_go_on && next.is_some_and(|at| at <= now) {
            return Ok(Found::GoOn { overdue: false });
        }
        if let Some(outcome) = self.put_off.as_ref().filter(|_| next.is_some()) {
            task::settle(tx, task, outcome, now)?;
            return Ok(Found::Over);
        }
        task::settle(tx, task, &Outcome::Done, now)?;
        if let Some(next) = next {
            task::wake(tx, TaskKind::Deliver, &[&task.subject], next)?;
        }
        Ok(Found::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::domain::delivery::Delivery;
    use crate::domain::endpoint::{Details, Endpoint};
    use crate::domain::event::Event;
    use crate::store::{Db, endpoint};

    /// What a run that ends finds due while its endpoint is enabled or not: when the task is due again.
    async fn task_after(disabled_at: Option<Millis>) -> Option<Millis> {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&Address::Sqlite(directory.path().join("r.db")), 0).unwrap();
        let ends = move |tx: &mut Tx| {
            let target = Target::Endpoint("ep_1".to_owned());
            let found =
                Endpoint { id: "ep_1".to_owned(), created_at: 1, disabled_at, details: Details::default() };
            endpoint::insert(tx, &found)?;
            let mut told = [Event { id: "evt_1".to_owned(), ..Event::default() }];
            crate::store::event::insert_many(tx, &mut told)?;
            delivery::insert_many(tx, &[Delivery::new(&told[0], target.clone(), None, 5)])?;
            task::wake(tx, TaskKind::Deliver, &[&target.name()], 5)?;
            let claimed = task::claim(tx, TaskKind::Deliver.lane(&target.name()), 1, 9, 99, 7)?.remove(0);
            let leave = Leave { may_go_on: false, put_off: None };
            assert_eq!(leave.settle(tx, &claimed, &target, 10)?, Found::Over);
            task::find_due(tx, &target.name(), TaskKind::Deliver)
        };
        db.write(ends).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_due_keeps_a_task_while_its_endpoint_is_enabled() {
        assert_eq!(task_after(None).await, Some(5));
        assert_eq!(task_after(Some(8)).await, None, "enabling it makes one");
    }
}
