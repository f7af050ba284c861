//! Joins the floors below: listeners, connections, intake, forwarder.
