//! daybook-api
