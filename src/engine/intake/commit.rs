//! The last step of a message that comes in: it becomes durable, and its sender gets the notice of success that was asked
//! for. The copies themselves are staged and committed in `incoming/staging.rs`.

use super::incoming::Incoming;
use super::notice;
use super::refusal::Refusal;
use crate::mail::id::QueueId;

impl Incoming<'_> {
    /// Makes every copy durable and returns the id of the message, which from then on survives any crash. Then sends
    /// the notice of success that the sender asked for. A failure of the notice is only logged: the message was
    /// delivered.
    ///
    /// # Errors
    /// The message loops or cannot be stored. Nothing of it is kept, except copies that were committed before the
    /// failure.
    pub fn commit(self) -> Result<QueueId, Refusal> {
        let (intake, site) = (self.intake, self.site);
        let (id, owed) = self.store()?;
        if let Some(owed) = owed {
            notice::report_success(intake, site, &owed);
        }
        Ok(id)
    }
}
