//! Whose a queued message is: one user or client may have at most a half of the queue, so that the others keep room.
//!
//! | the message came from | it counts as that of |
//! | --- | --- |
//! | a program of this host, by the control socket or `drop/` | its uid; root has no limit |
//! | a client, logged in or not | its address: an IPv6 address with its /64, and all loopback addresses together |
//! | this program, such as a notice | nobody |
//!
//! The owner is made from the text that a queue file has as its origin, so it survives a restart.

use crate::mail::address::ReversePath;
use crate::mail::fold::fold;
use crate::mail::network::Network;
use std::net::IpAddr;
use std::num::NonZeroU64;

/// Stands above the 32 bits of a uid. No /64 of IPv6 that anybody uses begins with these bits.
const USER: u64 = 1 << 32;
/// The same for an IPv4 address.
const IPV4: u64 = 2 << 32;

/// The user or client that a queued message counts as that of; eight octets, as there is one for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(NonZeroU64);

impl Owner {
    /// The owner by the origin of a message: `uid 1000`, `192.0.2.7`. `None`: nobody's share is used.
    #[must_use]
    pub fn of_origin(origin: &str) -> Option<Self> {
        if let Some(uid) = origin.strip_prefix("uid ") {
            return Self::of_user(uid.parse().ok()?);
        }
        let client: IpAddr = origin.parse().ok()?;
        let bits = match Network::of_client(client).address {
            IpAddr::V4(ip) => IPV4 | u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        NonZeroU64::new(bits).map(Self)
    }

    /// The owner of what this user hands over; `None` for root.
    #[must_use]
    pub fn of_user(uid: u32) -> Option<Self> {
        NonZeroU64::new(USER | u64::from(uid)).filter(|_| uid != 0).map(Self)
    }
}

/// Whether a share of this many messages and octets has no room for a message of `added` octets (0: not known yet), by
/// `queue.max_messages` and `queue.max_size`; 0: no limit of the size.
#[must_use]
pub fn is_used_up((messages, octets): (usize, u64), added: u64, max_messages: u32, max_octets: u64) -> bool {
    messages >= (max_messages as usize / 2).max(1)
        || (max_octets > 0 && octets.saturating_add(added.max(1)) > max_octets / 2)
}

/// A number that the senders with one name have in common, whatever their domain; 0: the null sender.
#[must_use]
pub fn sender_number(sender: &ReversePath) -> u32 {
    sender.mailbox().map_or(0, |mailbox| name_number(mailbox.local_part.as_str()))
}

/// The number of senders with this local-part: FNV-1a.
#[must_use]
pub fn name_number(name: &str) -> u32 {
    let step = |hash: u32, octet: u8| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    fold(name).bytes().fold(0x811c_9dc5, step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_each_client_is_an_owner_but_root_and_this_program() {
        let owner = Owner::of_origin;
        for (one, other) in [
            ("127.0.0.1", "127.9.9.9"),
            ("127.0.0.1", "::1"),
            ("2001:db8::1", "2001:db8::ffff"),
            ("192.0.2.1", "::ffff:192.0.2.1"),
        ] {
            assert!(owner(one).is_some() && owner(one) == owner(other), "{one} {other}");
        }
        let all =
            ["uid 1", "uid 1000", "192.0.2.1", "192.0.2.2", "127.0.0.1", "2001:db8::1", "2001:db8:0:1::1"];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| owner(one) != owner(other)), "{one}");
        }
        assert_eq!(owner("uid 1000"), Owner::of_user(1000));
        for nobody in ["uid 0", "uid x", "", "digest of 3 messages", "0RRZ4K8W3T5QM"] {
            assert_eq!(owner(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_share_is_half() {
        for (messages, octets, added, max_messages, max_octets, expected) in [
            (0, 0, 0, 1, 0, false),
            (1, 0, 0, 1, 0, true),
            (1, 0, 0, 2, 0, true),
            (1, 0, 0, 4, 0, false),
            (2, 0, 0, 4, 0, true),
            (2, 0, 0, 5, 0, true),
            (0, 499, 0, 10, 1000, false),
            (0, 499, 1, 10, 1000, false),
            (0, 499, 2, 10, 1000, true),
            (0, 0, 501, 10, 1000, true),
            (0, 500, 0, 10, 1000, true),
            (0, u64::MAX, u64::MAX, 10, 0, false),
        ] {
            let case = (messages, octets, added, max_messages, max_octets);
            assert_eq!(is_used_up((messages, octets), added, max_messages, max_octets), expected, "{case:?}");
        }
    }

    #[test]
    fn senders_with_one_name_have_one_number() {
        let number = |path: &str| sender_number(&ReversePath::parse(path).unwrap());
        assert_eq!(number("Root@box.example"), name_number("root"));
        assert_eq!(sender_number(&ReversePath::Null), 0);
        assert_ne!(number("a@box.example"), number("b@box.example"));
    }
}
