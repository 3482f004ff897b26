//! The contact with each orchestrator.

use crate::sys::thread::lock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The contact with one orchestrator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Contact {
    /// It has accepted a registration of this process.
    pub(crate) registered: bool,
    /// Why the last call failed; empty if it succeeded.
    pub(crate) error: String,
    #[serde(skip)]
    last: Option<Instant>,
}

/// The contacts with all orchestrators, by URL.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<BTreeMap<String, Contact>>);

impl Contacts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Contact>> {
        lock(&self.0)
    }

    /// The orchestrator at `url` has accepted the registration.
    pub(crate) fn registered(&self, url: &str) {
        let contact = Contact {
            registered: true,
            error: String::new(),
            last: Some(Instant::now()),
        };
        self.lock().insert(url.into(), contact);
    }

    /// It has refused the registration: it does not know this agent.
    pub(crate) fn refused(&self, url: &str, why: &str) {
        let mut all = self.lock();
        let contact = all.entry(url.into()).or_default();
        (contact.registered, contact.error) = (false, why.into());
    }

    /// It has answered a ping, which it also does for an agent that it does not know.
    pub(crate) fn answered(&self, url: &str) {
        if let Some(contact) = self.lock().get_mut(url).filter(|c| c.registered) {
            (contact.error, contact.last) = (String::new(), Some(Instant::now()));
        }
    }

    pub(crate) fn failed(&self, url: &str, why: &str) {
        self.lock().entry(url.into()).or_default().error = why.into();
    }

    /// True if one of them knows this agent and has answered within `limit`.
    pub(crate) fn is_good(&self, limit: Duration) -> bool {
        let recent = |c: &Contact| c.last.is_some_and(|at| at.elapsed() <= limit);
        self.lock().values().any(|c| c.registered && recent(c))
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Contact> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_contact_only_after_a_registration() {
        let (contacts, long) = (Contacts::default(), Duration::from_secs(60));
        contacts.answered("a");
        contacts.refused("a", "status 404");
        contacts.answered("a");
        assert!(!contacts.is_good(long));
        assert_eq!(
            contacts.all()["a"].error,
            "status 404",
            "an answer to a ping is no cure"
        );
        contacts.registered("b");
        assert!(contacts.is_good(long), "one of them is enough");
        contacts.failed("b", "no answer");
        assert!(contacts.is_good(long), "for status-bad-seconds");
        assert!(!contacts.is_good(Duration::ZERO));
        contacts.refused("b", "unknown");
        assert!(!contacts.is_good(long));
    }
}
