//! The port for peers: strangers, nodes with a fault, disks that were put back, secrets and certificates.

mod attacks;
mod disks;
mod mutations;
mod proofs;
