//! Nobody stops it from outside: strangers, one client and one service do what they can to a program in as much memory as
//! docker-compose.yml allows, and honest work goes on meanwhile.

mod attacker;
mod bodies;
mod handed_over;
mod in_between;
mod silent;
mod stalled;
