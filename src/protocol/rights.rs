//! The requests that a user may make on the control socket.
//!
//! The daemon takes user and groups of a peer from the kernel (SO_PEERCRED, SO_PEERGROUPS), never from the peer itself.
//! A user without rights over the daemon still sees no address of others: the answers hide them.

use super::request::Request;

/// The rights of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRights {
    /// Everything: root, the user of the daemon, and members of its group.
    All,
    /// Submit messages, ask where they would go, list the queue without the addresses of others, and read figures that
    /// name nobody.
    Own,
}

impl PeerRights {
    /// The rights of a peer by its user and its groups, at a daemon that runs as `user` and `group`.
    #[must_use]
    pub fn of(peer: u32, peer_groups: &[u32], user: u32, group: u32) -> Self {
        if peer == 0 || peer == user || peer_groups.contains(&group) { Self::All } else { Self::Own }
    }

    /// Whether the peer may ask this.
    #[must_use]
    pub fn allow(self, request: &Request) -> bool {
        self == Self::All || matches!(request, Request::List(_) | Request::Verify(_) | Request::Status(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Change, Form, Selection, Show};
    use super::*;
    use crate::mail::id::QueueId;
    use crate::mail::unqualified::Unqualified;
    use crate::rules::pacing::downtime::Uplink;

    #[test]
    fn rights_are_roots_the_users_and_its_groups() {
        let rights = |uid, groups: &[u32]| PeerRights::of(uid, groups, 500, 501);
        assert_eq!([rights(0, &[]), rights(500, &[]), rights(7, &[3, 501])], [PeerRights::All; 3]);
        assert_eq!([rights(501, &[500]), rights(1000, &[])], [PeerRights::Own; 2]);
        let root = Unqualified::parse("root").unwrap();
        for request in [Request::List(Form::Json), Request::Verify(vec![root]), Request::Status(Show::Json)] {
            assert!(PeerRights::Own.allow(&request));
        }
        let id = QueueId::new(1, 2);
        for request in [
            Request::Show(id),
            Request::Flush(vec![]),
            Request::Change(Change::Hold, Selection::All),
            Request::Link(Uplink::Up),
        ] {
            assert!(PeerRights::All.allow(&request) && !PeerRights::Own.allow(&request));
        }
    }
}
