//! The description of all protocols, for gRPC reflection.

/// An encoded `google.protobuf.FileDescriptorSet` of all files and their imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
