//! The configuration: from the file to typed settings.
