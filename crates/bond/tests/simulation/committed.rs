//! Tables that are committed beside the tests: a change of the engine shows as their difference.

use std::path::Path;

/// Compares `table` with the committed one of that name under `tests/`. One that differs or has no committed one is written
/// beside it, as `NAME.new`, and fails until somebody has read it and moved it there.
pub fn settle(name: &str, table: &str) {
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    if let Err(difference) = compare(&path, table) {
        panic!("{name} {difference}; to take the new one over, read {name}.new and move it to {name}");
    }
}

/// # Errors
/// How `table` differs from the one at `path`; the new one is then beside it.
pub fn compare(path: &Path, table: &str) -> Result<(), String> {
    let new = path.with_added_extension("new");
    let difference = match std::fs::read_to_string(path) {
        Ok(committed) if committed == table => {
            // Of a run before.
            let _ = std::fs::remove_file(&new);
            return Ok(());
        }
        Ok(committed) => {
            let changed: Vec<_> = committed.lines().zip(table.lines()).filter(|(old, new)| old != new).collect();
            for (old, new) in &changed {
                println!("- {old}\n+ {new}");
            }
            let (before, now) = (committed.lines().count(), table.lines().count());
            format!("changed in {} lines (above), and from {before} lines to {now}", changed.len())
        }
        Err(_) => "is not there".to_owned(),
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(new, table).unwrap();
    Err(difference)
}
