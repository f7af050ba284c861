//! The disk: the queue and the Maildirs. What is answered with 250 lies here, synced.
