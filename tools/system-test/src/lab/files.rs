//! The configuration files of a lab's programs.

use super::ports::Ports;
use super::{LabLink, LabOptions, MediaSource};
use std::path::Path;
use toml::{Table, Value};

/// The relay's configuration.
pub(super) fn relay(directory: &Path, options: &LabOptions) -> String {
    let ports = &options.ports;
    let loopback = |port: u16| format!("127.0.0.1:{port}");
    let mut table = Table::new();
    set(&mut table, &["data_dir"], path(&directory.join("relay")));
    set(&mut table, &["public_host"], "127.0.0.1".into());
    set(&mut table, &["dashboard", "insecure_cookies"], true.into());
    set(&mut table, &["receivers", "bind"], "127.0.0.1".into());
    set(&mut table, &["dashboard", "listen"], loopback(ports.dashboard).into());
    set(&mut table, &["broker", "listen"], loopback(ports.broker).into());
    set(&mut table, &["enrolment", "listen"], loopback(ports.enrolment).into());
    set(&mut table, &["receivers", "port_first"], i64::from(ports.receivers_first).into());
    set(&mut table, &["receivers", "port_last"], i64::from(ports.receivers_last()).into());
    set(&mut table, &["streams", "latency_ms"], i64::from(options.latency_ms).into());
    set(&mut table, &["streams", "bitrate_max_kbps"], i64::from(options.bitrate_max_kbps).into());
    table.to_string()
}

/// The agent's configuration: hardware that is simulated, links that are emulated.
pub(super) fn agent(directory: &Path, ports: &Ports, media: &MediaSource, links: &[LabLink]) -> String {
    let mut table = Table::new();
    table.insert("data_dir".into(), path(&directory.join("agent")));
    table.insert("local_page".into(), one("listen", format!("127.0.0.1:{}", ports.local_page).into()));
    table.insert("hardware".into(), one("kind", "fake".into()));
    let mut fake = Table::new();
    fake.insert("uplinks".into(), Value::Array(links.iter().enumerate().map(|(i, link)| uplink(i, link)).collect()));
    fake.insert("inputs".into(), Value::Array(vec![input(media)]));
    table.insert("fake".into(), Value::Table(fake));
    table.to_string()
}

fn uplink(number: usize, link: &LabLink) -> Value {
    let mut table = Table::new();
    table.insert("link".into(), Value::Integer(number as i64));
    table.insert("name".into(), link.name.clone().into());
    table.insert("kind".into(), "modem".into());
    table.insert("interface".into(), format!("fake{number}").into());
    table.insert("bind".into(), "127.0.0.1".into());
    table.insert("gateway".into(), link.gateway.to_string().into());
    table.insert("operator".into(), link.operator.clone().into());
    table.insert("technology".into(), link.technology.clone().into());
    table.insert("signal_dbm".into(), link.signal_dbm.into());
    table.insert("signal_swing_db".into(), 8.0.into());
    Value::Table(table)
}

fn input(media: &MediaSource) -> Value {
    let mut table = Table::new();
    match media {
        MediaSource::Test => {
            table.insert("id".into(), "test".into());
            table.insert("name".into(), "Test pattern".into());
            table.insert("kind".into(), "test".into());
        }
        MediaSource::File(file) => {
            table.insert("id".into(), "file".into());
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            table.insert("name".into(), name.into());
            table.insert("kind".into(), "file".into());
            table.insert("path".into(), path(file));
        }
        MediaSource::Lan(uri) => {
            table.insert("id".into(), "camera".into());
            table.insert("name".into(), "Camera on the network".into());
            table.insert("kind".into(), "lan".into());
            table.insert("uri".into(), uri.clone().into());
        }
    }
    Value::Table(table)
}

fn path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn one(key: &str, value: Value) -> Value {
    Value::Table(Table::from_iter([(key.to_owned(), value)]))
}

fn set(table: &mut Table, keys: &[&str], value: Value) {
    match keys {
        [key] => {
            table.insert((*key).to_owned(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
        [] => {}
    }
}
