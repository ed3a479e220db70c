//! The dashboard without a browser: who is answered, what pages are made of, and that its numbers are those of the commands.

mod access;
mod actions;
mod cost;
mod live;
mod reads;
mod sources;
