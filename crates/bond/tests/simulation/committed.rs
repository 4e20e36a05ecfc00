//! Tables that are committed beside the tests: a change of the engine shows as their difference.

use std::path::Path;

/// Compares `table` with the committed one of that name under `tests/`; writes it when there is none, and fails once, so that
/// nobody takes it over unseen.
pub fn settle(name: &str, table: &str) {
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    if let Ok(committed) = std::fs::read_to_string(&path) {
        let changed: Vec<_> = committed.lines().zip(table.lines()).filter(|(old, new)| old != new).collect();
        for (old, new) in &changed {
            println!("- {old}\n+ {new}");
        }
        assert!(
            committed == table,
            "{name} changed in {} lines (above); delete it to take the new one over",
            changed.len()
        );
        return;
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, table).unwrap();
    panic!("{name} was not there and has been written: read it, commit it");
}
