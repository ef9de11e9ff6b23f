//! Accepts receipts for many at once: those that wait go into one transaction, and each sender is
//! answered after its commit. A batch that fails is tried one by one.
//!
//! Bounded: a full queue is told at once, and the sender tries again.

use tokio::sync::{mpsc, oneshot};

use crate::domain::receipt::Receipt;
use crate::store::{self, Db, inbox};

/// Receipts that may wait for the next commit.
const QUEUE: usize = 4_096;
/// Receipts in one transaction.
const BATCH: usize = 256;
/// Transactions under way at once. SQLite has one writer, so more would only split batches there.
const IN_FLIGHT_POSTGRES: usize = 2;

type Waiting = (Receipt, oneshot::Sender<store::Result<bool>>);

#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
}

impl Intake {
    /// Starts the collector; it ends when the last `Intake` is dropped.
    pub fn start(db: Db) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(collect(db, waiting));
        Self { queue }
    }

    /// Whether the receipt was new. Resolves when it is on disk.
    pub async fn accept(&self, receipt: Receipt) -> store::Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((receipt, reply)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => store::Error::Busy,
            mpsc::error::TrySendError::Closed(_) => store::Error::Closed,
        })?;
        answer.await.unwrap_or(Err(store::Error::Closed))
    }
}

async fn collect(db: Db, mut waiting: mpsc::Receiver<Waiting>) {
    let lanes = if db.engine() == "postgres" { IN_FLIGHT_POSTGRES } else { 1 };
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(lanes));
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // Closed only by us, and we never do.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        // What arrived while waiting for the permit comes along.
        while batch.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        let (db, taken) = (db.clone(), std::mem::take(&mut batch));
        tokio::spawn(async move {
            store_batch(&db, taken).await;
            drop(permit);
        });
    }
}

async fn store_batch(db: &Db, batch: Vec<Waiting>) {
    let (receipts, replies): (Vec<Receipt>, Vec<_>) = batch.into_iter().unzip();
    let receipts = std::sync::Arc::new(receipts);
    let all = receipts.clone();
    match db.write(move |tx| inbox::accept_many(tx, &all)).await {
        // A sender that hung up has its receipt stored all the same.
        Ok(fresh) => replies.into_iter().zip(fresh).for_each(|(reply, new)| drop(reply.send(Ok(new)))),
        Err(e) if e.may_pass() || replies.len() == 1 => {
            replies.into_iter().for_each(|reply| drop(reply.send(Err(e.clone()))));
        }
        // One of them is what the database cannot take; the others must not suffer for it.
        Err(_) => {
            for (nth, reply) in replies.into_iter().enumerate() {
                let all = receipts.clone();
                let one = db.write(move |tx| inbox::accept_many(tx, &all[nth..=nth])).await;
                drop(reply.send(one.map(|fresh| fresh.first().copied().unwrap_or(false))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::config::Address;
    use crate::domain::ids;
    use crate::domain::receipt::{Note, Verdict};

    fn receipt(nth: usize) -> Receipt {
        Receipt {
            id: ids::new(ids::RECEIPT, 1, (nth as u128).to_be_bytes()),
            received_at: 1,
            verdict: Verdict::Signed,
            job_address: None,
            signed_by: None,
            path: "/webhooks/heygen".to_owned(),
            remote: None,
            headers: "{}".to_owned(),
            body: nth.to_string().into_bytes(),
            note: Note::default(),
        }
    }

    /// On one thread the collector has no turn before we wait, so what is polled only fills the queue.
    #[tokio::test]
    async fn the_last_place_of_the_queue_is_given_and_none_beyond_it() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&Address::Sqlite(directory.path().join("r.db")), 0).unwrap();
        let intake = Intake::start(db.clone());
        let mut waiting: Vec<_> = (0..QUEUE).map(|nth| Box::pin(intake.accept(receipt(nth)))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for accept in &mut waiting {
            assert!(accept.as_mut().poll(&mut context).is_pending());
        }
        let refused = intake.accept(receipt(QUEUE)).await;
        assert!(matches!(refused, Err(store::Error::Busy)), "{refused:?}");
        for accept in waiting {
            assert!(accept.await.unwrap(), "each is new");
        }
        assert!(intake.accept(receipt(QUEUE)).await.unwrap(), "nothing of it was kept before");
    }
}
