#![no_main]
libfuzzer_sys::fuzz_target!(init: rist_fuzz::write_seeds(), |bytes: &[u8]| rist_fuzz::extension::run(bytes));
