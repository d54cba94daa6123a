//! Test material that others wrote, played to the running server over TCP. Each test says how many cases
//! ran, and names the suites that are not on this machine.

mod addresses;
mod dialogue;
mod proxy;
mod smuggling;
