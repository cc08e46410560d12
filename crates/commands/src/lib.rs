//! daybook-commands
