//! A message on its way into a mailbox of this host: the Return-Path and Delivered-To of this host in front, and any
//! other Return-Path removed (RFC 5321 §4.4). It fails as [`Delivery`] does.

use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::section_filter::SectionFilter;
use crate::store::StoreError;
use crate::store::durable::SyncedFile;
use crate::store::maildir::Delivery;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The text in the log and in notices for a copy in a Maildir or mbox.
pub(crate) const DELIVERED: &str = "delivered to the mailbox";
/// The most octets of a header section that are filtered at once.
const PIECE_OCTETS: usize = 4096;

/// A delivery that has its Return-Path and Delivered-To.
pub struct FinalDelivery {
    delivery: Delivery,
    /// Boxed, so that the variants of `Staging` and `PartialContent` that need no filter stay small.
    filter: Box<SectionFilter>,
}

impl FinalDelivery {
    /// Writes the fields of this host.
    ///
    /// # Errors
    /// Those of [`Delivery::begin`].
    pub fn begin(
        mut delivery: Delivery,
        reverse_path: &ReversePath,
        mailbox: &Mailbox,
    ) -> Result<Self, StoreError> {
        delivery.begin(reverse_path, mailbox)?;
        Ok(Self { delivery, filter: Box::new(SectionFilter::without("Return-Path")) })
    }

    /// Fails instead of waiting for an mbox that another program has locked; see [`Delivery::hurry`].
    pub fn hurry(&mut self) {
        self.delivery.hurry();
    }

    /// Appends octets of the message.
    ///
    /// # Errors
    /// Those of [`Delivery::write`].
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        let mut rest = octets;
        while !rest.is_empty() && !self.filter.is_in_body() {
            let (start, after) = rest.split_at(rest.len().min(PIECE_OCTETS));
            let mut kept = Vec::with_capacity(start.len());
            self.filter.feed(start, &mut kept);
            self.delivery.write(&kept)?;
            rest = after;
        }
        self.delivery.write(rest)
    }

    /// Appends `octets` octets of `source`, from `offset` on.
    ///
    /// # Errors
    /// Those of [`Delivery::append_from`]; or `source` cannot be read.
    pub fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        let (mut at, end) = (offset, offset + octets);
        let mut piece = [0; PIECE_OCTETS];
        while !self.filter.is_in_body() && at < end {
            let most = usize::try_from(end - at).map_or(PIECE_OCTETS, |left| left.min(PIECE_OCTETS));
            let room = piece.get_mut(..most).unwrap_or_default();
            let length = match source.read_at(room, at) {
                Ok(0) => return Err(StoreError::io("", io::Error::from(io::ErrorKind::UnexpectedEof))),
                Ok(length) => length,
                Err(error) => return Err(StoreError::io("", error)),
            };
            self.write(room.get(..length).unwrap_or_default())?;
            at += length as u64;
        }
        self.delivery.append_from(source, at, end - at)
    }

    /// The octets written so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.delivery.octets()
    }

    /// The file, after what is buffered was written to it.
    ///
    /// # Errors
    /// Those of [`Delivery::content_source`].
    pub fn content_source(&mut self) -> Result<&File, StoreError> {
        self.delivery.content_source()
    }

    /// Ends the message and puts it on stable storage.
    ///
    /// # Errors
    /// Those of [`Delivery::sync`].
    pub fn sync(mut self) -> Result<SyncedFile, StoreError> {
        let mut rest = Vec::new();
        self.filter.finish(&mut rest);
        self.delivery.write(&rest)?;
        self.delivery.sync()
    }
}
