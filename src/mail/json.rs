//! JSON objects (RFC 8259) that other programs send: the members of one object, and nothing below them.
//!
//! The text may be hostile. What lies deeper is skipped without recursion, so that no depth overflows the small stack of
//! a thread; a member that is neither text nor a whole number is there, but has no value. Of two members with the same
//! name the first counts. Texts may be secrets: they are overwritten when the object is dropped, and never shown by
//! `Debug`.

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The most members that are read; further ones are ignored.
const MEMBERS_MAX: usize = 64;

/// An object.
pub struct JsonObject(Vec<(String, Scalar)>);

/// The value of a member.
enum Scalar {
    Text(String),
    Number(u64),
    Other,
}

impl JsonObject {
    /// Parses an object; `None` if the octets are no JSON, or another value.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        serde_json::from_slice(octets).ok()
    }

    /// The text of a member.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name)? {
            Scalar::Text(text) => Some(text),
            Scalar::Number(_) | Scalar::Other => None,
        }
    }

    /// The number of a member, which may also be written as a text.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.member(name)? {
            Scalar::Number(number) => Some(*number),
            Scalar::Text(text) => text.parse().ok(),
            Scalar::Other => None,
        }
    }

    /// The names of all members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn member(&self, name: &str) -> Option<&Scalar> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

impl Drop for JsonObject {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            if let Scalar::Text(text) = value {
                let mut octets = std::mem::take(text).into_bytes();
                octets.fill(0);
                // Without this reader the compiler would remove the zeroing.
                std::hint::black_box(&octets);
            }
        }
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Value)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = JsonObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
        let mut object = JsonObject(Vec::new());
        while let Some(member) = map.next_entry()? {
            if object.0.len() < MEMBERS_MAX {
                object.0.push(member);
            }
        }
        Ok(object)
    }
}

struct Value;

impl<'de> Visitor<'de> for Value {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        // The conversion saturates: `3599.0` is written by some servers.
        Ok(if number >= 0.0 { Scalar::Number(number as u64) } else { Scalar::Other })
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_read_and_what_lies_deeper_is_skipped() {
        let text = r#"{"a":"x\u00e9\n\/","n":3599,"f":60.0,"s":"17","m":-1,"l":[1,{"a":"no"}],"o":{"n":1},"t":true,"z":null,"n":5}"#;
        let object = JsonObject::parse(text.as_bytes()).unwrap();
        assert_eq!(object.text("a"), Some("xé\n/"));
        assert_eq!(["n", "f", "s"].map(|name| object.number(name)), [Some(3599), Some(60), Some(17)]);
        for name in ["m", "l", "o", "t", "z", "none"] {
            assert_eq!((object.text(name), object.number(name)), (None, None), "{name}");
        }
        assert_eq!(format!("{object:?}"), r#"["a", "n", "f", "s", "m", "l", "o", "t", "z", "n"]"#);
    }

    #[test]
    fn other_values_and_damaged_ones_are_no_objects() {
        for text in ["", "null", "[]", "\"a\"", "{", "{\"a\"}", "{\"a\":1}x", "{\"a\":\"\u{1}\"}", "<html>"] {
            assert!(JsonObject::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(JsonObject::parse(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn no_depth_overflows_a_small_stack() {
        let half = 1 << 20;
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{{\"a\":{}1{},\"b\":2}}", open.repeat(half), close.repeat(half));
            let cut = format!("{{\"a\":{}", open.repeat(half));
            let run = move || (JsonObject::parse(deep.as_bytes()), JsonObject::parse(cut.as_bytes()));
            let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(run).unwrap();
            let (deep, cut) = thread.join().unwrap();
            assert_eq!(deep.and_then(|object| object.number("b")), Some(2));
            assert!(cut.is_none());
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_an_object_or_none(text in "[{}\\[\\]\",:a0-9\\\\u. ]{0,40}", octets: Vec<u8>) {
            let _ = (JsonObject::parse(text.as_bytes()), JsonObject::parse(&octets));
        }
    }
}
