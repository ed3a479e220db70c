//! The committed Rust of `src/proto/generated` is what the files in `proto/` compile to.
//!
//! `UPDATE_PROTO=1 cargo test --test it proto` rewrites it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

const FILES: [&str; 5] = [
    "apache/rocketmq/v2/definition.proto",
    "apache/rocketmq/v2/service.proto",
    "apache/rocketmq/v2/admin.proto",
    "raftmq/peer.proto",
    "raftmq/admin.proto",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles `proto/` into file names and contents.
fn generate() -> BTreeMap<String, Vec<u8>> {
    let include = root().join("proto");
    let mut descriptors = protox::compile(FILES.map(|file| include.join(file)), [&include]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())
        .unwrap();
    let mut files = read_folder(out.path());
    // prost writes an empty file for the well-known types, which prost-types already has.
    files.retain(|name, _| !name.starts_with("google."));
    // Comments and positions are no use to reflection and would triple the size.
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    files.insert("descriptor.bin".into(), descriptors.encode_to_vec());
    files
}

fn read_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        })
        .collect()
}

/// Names of the files that only one side has or whose contents differ.
fn differences(committed: &BTreeMap<String, Vec<u8>>, generated: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = committed.keys().chain(generated.keys()).collect();
    names.into_iter().filter(|name| committed.get(*name) != generated.get(*name)).cloned().collect()
}

#[test]
fn committed_rust_is_what_the_proto_files_compile_to() {
    let folder = root().join("src/proto/generated");
    let generated = generate();
    if std::env::var_os("UPDATE_PROTO").is_some() {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in &generated {
            fs::write(folder.join(name), content).unwrap();
        }
    }
    let differing = differences(&read_folder(&folder), &generated);
    assert!(
        differing.is_empty(),
        "src/proto/generated is out of date: {differing:?}; run UPDATE_PROTO=1 cargo test --test it proto"
    );
}

#[test]
fn a_changed_missing_or_extra_file_is_a_difference() {
    let one = |name: &str, content: &str| BTreeMap::from([(name.to_string(), content.as_bytes().to_vec())]);
    assert!(differences(&one("a", "1"), &one("a", "1")).is_empty());
    assert_eq!(differences(&one("a", "1"), &one("a", "2")), ["a"]);
    assert_eq!(differences(&BTreeMap::new(), &one("a", "1")), ["a"]);
    assert_eq!(differences(&one("a", "1"), &BTreeMap::new()), ["a"]);
}

/// The messages, enums and services of one package, nested ones as `Outer.Inner`.
struct Package {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
    services: BTreeMap<String, ServiceDescriptorProto>,
}

impl Package {
    fn of(package: &str) -> Self {
        let set = FileDescriptorSet::decode(raftmq::proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut found = Self { messages: BTreeMap::new(), enums: BTreeMap::new(), services: BTreeMap::new() };
        for file in set.file.into_iter().filter(|file| file.package() == package) {
            found.enums.extend(file.enum_type.into_iter().map(|item| (item.name().to_string(), item)));
            found.services.extend(file.service.into_iter().map(|item| (item.name().to_string(), item)));
            for message in file.message_type {
                found.add(message.name().to_string(), message);
            }
        }
        found
    }

    fn add(&mut self, name: String, message: DescriptorProto) {
        let nested = message.nested_type.iter().filter(|inner| !inner.options.as_ref().is_some_and(|o| o.map_entry()));
        for inner in nested {
            self.add(format!("{name}.{}", inner.name()), inner.clone());
        }
        for inner in &message.enum_type {
            self.enums.insert(format!("{name}.{}", inner.name()), inner.clone());
        }
        self.messages.insert(name, message);
    }

    fn field(&self, message: &str, field: &str) -> i32 {
        self.messages[message].field.iter().find(|item| item.name() == field).unwrap().number()
    }

    fn value(&self, enumeration: &str, value: &str) -> i32 {
        self.enums[enumeration].value.iter().find(|item| item.name() == value).unwrap().number()
    }
}

#[test]
fn the_client_protocol_is_complete() {
    let package = Package::of("apache.rocketmq.v2");
    assert_eq!(package.messages.len(), 106);
    assert_eq!(package.messages.values().map(|message| message.field.len()).sum::<usize>(), 365);
    assert_eq!(package.enums.len(), 17);
    assert_eq!(package.enums.values().map(|item| item.value.len()).sum::<usize>(), 128);
    assert_eq!(package.services["MessagingService"].method.len(), 17);
    assert_eq!(package.services["Admin"].method.len(), 16);
}

#[test]
fn numbers_on_the_wire_are_those_of_the_protocol() {
    let package = Package::of("apache.rocketmq.v2");
    assert_eq!(package.field("Message", "body"), 4);
    assert_eq!(package.field("SystemProperties", "receipt_handle"), 12);
    assert_eq!(package.field("SystemProperties", "priority"), 22);
    assert_eq!(package.field("Settings", "subscription"), 6);
    assert_eq!(package.field("TelemetryCommand", "settings"), 2);
    assert_eq!(package.field("ReceiveMessageRequest", "attempt_id"), 8);
    assert_eq!(package.field("ChangeInvisibleDurationRequest", "invisible_duration"), 4);
    assert_eq!(package.field("ListMessageRequest", "lite_topic"), 14);
    assert_eq!(package.value("Code", "OK"), 20000);
    assert_eq!(package.value("Code", "INVALID_RECEIPT_HANDLE"), 40013);
    assert_eq!(package.value("Code", "FAILED_TO_CONSUME_MESSAGE"), 60000);
    assert_eq!(package.value("MessageType", "PRIORITY"), 6);
    assert_eq!(package.value("OffsetOption.Policy", "MAX"), 2);
}

#[test]
fn streams_are_where_the_protocol_has_them() {
    let package = Package::of("apache.rocketmq.v2");
    let streams = |server: bool| -> Vec<String> {
        let methods = package.services["MessagingService"].method.iter();
        let chosen = methods.filter(|m| if server { m.server_streaming() } else { m.client_streaming() });
        chosen.map(|method| method.name().to_string()).collect()
    };
    assert_eq!(streams(true), ["ReceiveMessage", "PullMessage", "Telemetry"]);
    assert_eq!(streams(false), ["Telemetry"]);
    assert!(package.services["Admin"].method.iter().all(|m| !m.server_streaming() && !m.client_streaming()));
}

#[test]
fn our_own_services_are_there() {
    assert_eq!(Package::of("raftmq.peer.v1").messages["Call"].oneof_decl.len(), 1);
    assert_eq!(Package::of("raftmq.admin.v1").services["Admin"].method.len(), 32);
}
