//! daybook-feed
