//! The orchestrators: the token that each of them gets, the protocol in use with it, and when it last answered.

use super::orchestrator::base;
use super::wire::{Contact, Wire};
use crate::config::{self, Protocol, Secret};
use crate::error::{OnPath, Result};
use crate::sys::host::{random_hex, rfc3339};
use crate::sys::thread::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Where v2 is in use, so many registrations by v2 in a row must be answered by 404 or 403 before the classic protocol is tried: a proxy
/// may answer so while orchestrator restarts.
pub(super) const NOT_FOUND_LIMIT: u32 = 3;

/// All of `orchestrator.url`, in their order.
#[derive(Debug)]
pub(crate) struct Contacts {
    peers: Vec<Arc<Peer>>,
}

/// One orchestrator.
#[derive(Debug)]
pub(super) struct Peer {
    /// With its port.
    url: String,
    /// New at each start: the token of a request shows which orchestrator has sent it.
    token: Secret,
    /// `orchestrator.protocol`
    configured: Protocol,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// It has accepted a registration of this process, and has not refused a later one.
    registered: bool,
    /// Why the last call failed; empty if it succeeded.
    error: String,
    /// When it last answered.
    last: Option<Instant>,
    /// The protocol of the last registration that it accepted, and since when.
    in_use: Option<(Wire, SystemTime)>,
    /// The protocol of a registration that has no answer yet.
    calling: Option<Wire>,
    /// Registrations by v2 in a row that it has answered by 404 or 403.
    not_found: u32,
}

/// Which protocols the next registration may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Only(Wire),
    /// None is in use yet: v2, and the classic protocol if the answer is 404 or 403.
    Both,
    /// v2, which is in use: the classic protocol only from [`NOT_FOUND_LIMIT`] answers of 404 or 403 in a row.
    KeepV2,
    /// v2, and without success the classic protocol, which is in use: v2 may fail in any way, also of a proxy for a path that it does
    /// not know.
    KeepClassic,
}

impl Contacts {
    /// With a new token for each url. Fails if the kernel gives no random numbers.
    pub(crate) fn new(settings: &config::Orchestrator) -> Result<Self> {
        let peer = |url: &String| {
            let token = random_hex(32).on("random numbers of the kernel")?;
            Ok(Arc::new(Peer {
                url: base(url, settings.agents_port),
                token: Secret::new(token),
                configured: settings.protocol,
                state: Mutex::default(),
            }))
        };
        let peers: Result<_> = settings.urls.iter().map(peer).collect();
        Ok(Self { peers: peers? })
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.iter()
    }

    /// The token of the first url: the one for `token-hint-file` and `get-agent-info`.
    pub(crate) fn first_token(&self) -> Secret {
        let first = self.peers.first();
        first.map(|peer| peer.token.clone()).unwrap_or_default()
    }

    /// The protocol in which a request with this token is to be answered; `None` if the token is wrong. All tokens are compared, each in
    /// a time that does not depend on where the difference is.
    pub(crate) fn wire_of(&self, token: &str) -> Option<Wire> {
        let mut found = None;
        for peer in &self.peers {
            let wire = peer.wire();
            if peer.token.matches(token) {
                found = Some(wire);
            }
        }
        found
    }

    /// True if the protocol of one of them is classic, or is not known yet.
    pub(crate) fn may_be_classic(&self) -> bool {
        self.peers().any(|peer| peer.may_be_classic())
    }

    /// True if one of them knows this agent and has answered within `limit`.
    pub(crate) fn is_good(&self, limit: Duration) -> bool {
        self.peers().any(|peer| {
            let state = peer.lock();
            state.registered && state.last.is_some_and(|at| at.elapsed() <= limit)
        })
    }

    /// By url.
    pub(crate) fn all(&self) -> BTreeMap<String, Contact> {
        let contact = |peer: &Arc<Peer>| (peer.url.clone(), peer.contact());
        self.peers().map(contact).collect()
    }
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// Where no protocol is in use yet, that of the registration that is under way, because orchestrator calls back before it answers;
    /// without one, the configured protocol.
    fn wire(&self) -> Wire {
        let state = self.lock();
        let in_use = state.in_use.map(|(wire, _)| wire);
        state.calling.or(in_use).unwrap_or(match self.configured {
            Protocol::Classic => Wire::Classic,
            Protocol::Auto | Protocol::V2 => Wire::V2,
        })
    }

    fn may_be_classic(&self) -> bool {
        let in_use = self.lock().in_use;
        match self.configured {
            Protocol::V2 => false,
            Protocol::Auto if in_use.is_some() => self.wire() == Wire::Classic,
            Protocol::Auto | Protocol::Classic => true,
        }
    }

    /// `seeding`: a seed is current, so the protocol in use must not change.
    pub(super) fn choice(&self, seeding: bool) -> Choice {
        let in_use = self.lock().in_use.map(|(wire, _)| wire);
        match (self.configured, in_use) {
            (Protocol::V2, _) => Choice::Only(Wire::V2),
            (Protocol::Classic, _) => Choice::Only(Wire::Classic),
            (Protocol::Auto, Some(wire)) if seeding => Choice::Only(wire),
            (Protocol::Auto, Some(Wire::V2)) => Choice::KeepV2,
            (Protocol::Auto, Some(Wire::Classic)) => Choice::KeepClassic,
            (Protocol::Auto, None) => Choice::Both,
        }
    }

    /// A registration begins. An orchestrator of the classic protocol goes on polling while it is tried whether it has v2, and v2 calls
    /// back by `get-agent-data`, which has only one form; so the classic protocol stays in use until v2 has succeeded.
    pub(super) fn begin(&self, wire: Wire) {
        let mut state = self.lock();
        let classic = state.in_use.is_some_and(|(w, _)| w == Wire::Classic);
        state.calling = Some(wire).filter(|_| !classic);
    }

    /// Counts the answers to registrations by v2: how many in a row were 404 or 403.
    pub(super) fn count_not_found(&self, not_found: bool) -> u32 {
        let mut state = self.lock();
        state.not_found = if not_found { state.not_found + 1 } else { 0 };
        state.not_found
    }

    /// It has accepted the registration by this protocol. Returns the one that was in use before, if it was another.
    pub(super) fn registered(&self, wire: Wire) -> Option<Wire> {
        let mut state = self.lock();
        let before = state.in_use.map(|(wire, _)| wire);
        if before != Some(wire) {
            state.in_use = Some((wire, SystemTime::now()));
            state.not_found = 0;
        }
        (state.registered, state.calling) = (true, None);
        (state.error, state.last) = (String::new(), Some(Instant::now()));
        before.filter(|before| *before != wire)
    }

    /// It has refused the registration: it does not know this agent.
    pub(super) fn refused(&self, why: &str) {
        let mut state = self.lock();
        (state.registered, state.calling) = (false, None);
        state.error = why.into();
    }

    /// It has answered a ping, which it also does for an agent that it does not know.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        if state.registered {
            (state.error, state.last) = (String::new(), Some(Instant::now()));
        }
    }

    /// No answer to a call.
    pub(super) fn failed(&self, why: &str) {
        let mut state = self.lock();
        (state.error, state.calling) = (why.into(), None);
    }

    fn contact(&self) -> Contact {
        let state = self.lock();
        let seconds = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH);
            SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
        };
        let protocol = state.in_use.map(|(wire, _)| wire.to_string());
        let since = state.in_use.map(|(_, at)| rfc3339(seconds(at)));
        Contact {
            registered: state.registered,
            error: state.error.clone(),
            protocol: protocol.unwrap_or_default(),
            since: since.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
impl Contacts {
    /// For orchestrators at these addresses.
    pub(super) fn at(urls: &[&str], protocol: Protocol) -> Self {
        let peer = |url: &&str| {
            Arc::new(Peer {
                url: url.to_string(),
                token: Secret::new(random_hex(32).unwrap()),
                configured: protocol,
                state: Mutex::default(),
            })
        };
        let peers = urls.iter().map(peer).collect();
        Self { peers }
    }

    pub(super) fn peer(&self, index: usize) -> &Arc<Peer> {
        &self.peers[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_contact_only_after_a_registration() {
        let (contacts, long) = (
            Contacts::at(&["a", "b"], Protocol::Auto),
            Duration::from_secs(60),
        );
        let (a, b) = (contacts.peer(0), contacts.peer(1));
        a.answered();
        a.refused("status 404");
        a.answered();
        assert!(!contacts.is_good(long));
        assert_eq!(
            contacts.all()["a"].error,
            "status 404",
            "an answer to a ping is no cure"
        );
        b.registered(Wire::V2);
        assert!(contacts.is_good(long), "one of them is enough");
        b.failed("no answer");
        assert!(contacts.is_good(long), "for status-bad-seconds");
        assert!(!contacts.is_good(Duration::ZERO));
        b.refused("unknown");
        assert!(!contacts.is_good(long));
    }

    #[test]
    fn a_token_selects_its_own_url() {
        let contacts = Contacts::at(&["a", "b"], Protocol::Auto);
        let (a, b) = (contacts.peer(0), contacts.peer(1));
        let wire = |peer: &Peer| contacts.wire_of(peer.token.reveal());
        assert_eq!(a.token.reveal().len(), 64);
        assert_eq!(&contacts.first_token(), a.token());
        assert_ne!(a.token, b.token);
        assert_eq!(wire(a), Some(Wire::V2), "before the first registration");
        b.begin(Wire::Classic);
        assert_eq!((wire(a), wire(b)), (Some(Wire::V2), Some(Wire::Classic)));
        b.refused("x");
        assert_eq!(wire(b), Some(Wire::V2), "not in use yet");
        b.begin(Wire::Classic);
        assert_eq!(b.registered(Wire::Classic), None);
        b.begin(Wire::V2);
        assert_eq!(wire(b), Some(Wire::Classic), "a probe for v2 is no change");
        assert_eq!(b.registered(Wire::V2), Some(Wire::Classic));
        assert_eq!((wire(a), wire(b)), (Some(Wire::V2), Some(Wire::V2)));
        for wrong in [
            "",
            &a.token.reveal()[..63],
            &a.token.reveal().to_uppercase(),
        ] {
            assert_eq!(contacts.wire_of(wrong), None, "{wrong}");
        }
        let classic = Contacts::at(&["a"], Protocol::Classic);
        assert_eq!(
            classic.wire_of(classic.first_token().reveal()),
            Some(Wire::Classic)
        );
    }

    #[test]
    fn the_protocol_in_use_is_kept_during_a_seed() {
        let of = |protocol| Contacts::at(&["a"], protocol);
        for seeding in [false, true] {
            let (v2, classic) = (of(Protocol::V2), of(Protocol::Classic));
            assert_eq!(v2.peer(0).choice(seeding), Choice::Only(Wire::V2));
            assert_eq!(classic.peer(0).choice(seeding), Choice::Only(Wire::Classic));
        }
        let auto = of(Protocol::Auto);
        let peer = auto.peer(0);
        let choices = || [peer.choice(false), peer.choice(true)];
        assert_eq!(choices(), [Choice::Both, Choice::Both]);
        peer.registered(Wire::V2);
        assert_eq!(choices(), [Choice::KeepV2, Choice::Only(Wire::V2)]);
        let counts = [true, true, false, true].map(|n| peer.count_not_found(n));
        assert_eq!(counts, [1, 2, 0, 1]);
        peer.registered(Wire::Classic);
        assert_eq!(
            choices(),
            [Choice::KeepClassic, Choice::Only(Wire::Classic)]
        );
    }

    #[test]
    fn where_a_caller_with_a_wrong_token_may_be_a_classic_orchestrator() {
        let of = |protocol| Contacts::at(&["a", "b"], protocol);
        assert!(!of(Protocol::V2).may_be_classic());
        let auto = of(Protocol::Auto);
        let (a, b) = (auto.peer(0), auto.peer(1));
        assert!(auto.may_be_classic(), "none is known");
        a.registered(Wire::V2);
        assert!(auto.may_be_classic(), "one is not known");
        b.registered(Wire::V2);
        assert!(!auto.may_be_classic());
        b.begin(Wire::V2);
        b.failed("no answer");
        assert!(!auto.may_be_classic());
        b.begin(Wire::Classic);
        assert!(auto.may_be_classic(), "it calls back by the classic one");
        b.registered(Wire::Classic);
        assert!(auto.may_be_classic());
        let classic = of(Protocol::Classic);
        for n in 0..2 {
            classic.peer(n).registered(Wire::Classic);
        }
        assert!(classic.may_be_classic());
    }

    #[test]
    fn since_when_a_protocol_is_in_use() {
        let contacts = Contacts::at(&["a"], Protocol::Auto);
        let peer = contacts.peer(0);
        assert_eq!(contacts.all()["a"], Contact::default());
        peer.registered(Wire::Classic);
        let first = contacts.all()["a"].clone();
        assert!(first.registered && first.protocol == "classic");
        assert_eq!(first.since.len(), "2026-01-01T00:00:00Z".len());
        peer.lock().in_use = Some((Wire::Classic, SystemTime::UNIX_EPOCH));
        peer.registered(Wire::Classic);
        assert_eq!(
            contacts.all()["a"].since,
            "1970-01-01T00:00:00Z",
            "a repetition changes nothing"
        );
    }
}
