//! Messages to begin with, for every test that changes them: captured ones (librist 0.2.7 and its successor) and emitted
//! ones.

use rist::wire::datagram::{self, Addresses};
use rist::wire::keepalive::Announcement;
use rist::wire::lqm::Lqm;
use rist::wire::reduced::ReducedHeader;
use rist::wire::rtcp::{
    App, BitmaskEntry, Echo, EchoKind, ExtendedSequence, NackBitmask, NackRange, RangeEntry, ReceiverReport,
    ReportBlock, Xr,
};

const CAPTURED: [&str; 26] = [
    "000088b6800007b180c8000603b7047eeeab79d31833dc0bdb24f440000000000000000081ca000303b7047e010573656e644100",
    "000088b6800007b180c9000103b7047e81ca000303b7047e010573656e64410082cc000503b7047e5249535483aa842da8e9160700000000",
    "000088b607b1800080c9000103b7047e81ca000303b7047e010572656376410083cc000503b7047e5249535483aa842da8e9160700000000",
    "000088b607b1800081c9000703b7047e0000000000000000000000000000000000000000842da8fe81ca000303b7047e010572656376410080cf0004d04dd7df0400000283aa842da8fedf4782cc0005d04dd7df5249535483aa842da8fedfc800000000",
    "000088b6800107b08021001dddd7df94982f9b0e52495354544553543030303030303239",
    "000088b607b1800080c90001982f9b0e81ca0003982f9b0e010572656376410080cc0003982f9b0e52495354001d0002",
    "000088b607b1800080c9000139f027e881ca000339f027e8010572656376410081cd00030000000039f027e8001d0003",
    "8021001dddeaee8bbbc14bb252495354544553543030303030303239",
    "80c90001bbc14bb281ca0003bbc14bb2010572656376410080cc0003bbc14bb252495354001d0002",
    "300888b62126876100000018744163ab7db41c9ba70a1d6c7105fed003b465f7aa15a69230f0594f4abb2d52",
    "304888b6239606ed0000000253c212e7d214aa9e1ddca81482ea7dda21b78fc7cab492c100d311835973f7bed387e61849cbbf8a6fe3c735bebc2c9f5be2b58a",
    "000088b6800107b090210000db42f2a4c0fbffdc5249000180350000",
    "1010cce000000000000080000ad2901333022520",
    "100888b5000000030ad2901333022520",
    "1010cce0000000060000800204b000000000",
    "1010cce00000002400000000800107b080210000de48c8308be6f6f052495354544553543030303030303030",
    "3050cce080eeb67300000000a59c301982bfa02da83b4571",
    "0000888e02010000",
    "0000888e0200000a02fc000a01616c696365",
    "0000888e0200000602ff00061303",
    "1008888e000000140300000601c100061310",
    "0000888e0200000501fc000501",
    "1008888e0000000d03010004",
    "1008888e0000001303000006032900060000",
    "1010888e000000090300000702c10007131080",
    "00000001000003e8000001f4000003e80000000a000000080000000700000003000000020000138800000078",
];

/// All of them.
pub fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = CAPTURED.iter().map(|text| hex::decode(text).unwrap()).collect();
    // Every capture also without its GRE header and virtual ports, for the parsers behind them; frames of the log-in have
    // no ports.
    let short = |bytes: &[u8]| if bytes.starts_with(&[0, 0, 0x88, 0x8e]) { 4 } else { 8 };
    corpus.extend(corpus.clone().iter().filter_map(|bytes| bytes.get(short(bytes)..)).map(<[u8]>::to_vec));
    let mut compound = Vec::new();
    ReceiverReport::emit(1, &[ReportBlock::default(); 3], Some(&Lqm::default()), &mut compound);
    NackRange::emit(2, (0..20).map(|first| RangeEntry { first, additional: 9 }), &mut compound);
    NackBitmask::emit(1, 2, (0..20).map(|first| BitmaskEntry { first, following: 0xaaaa }), &mut compound);
    ExtendedSequence { media_ssrc: 2, high: 3 }.emit(&mut compound);
    Echo { padding_bytes: 64, ..Echo::default() }.emit(EchoKind::Request, &mut compound);
    Xr::emit(1, Some(5), &[], &mut compound);
    App { subtype: 7, ssrc: 1, name: *b"BOND", body: &[1; 40] }.emit(&mut compound);
    corpus.push(compound);
    let mut wholes = Vec::new();
    let mut json = vec![0; 8];
    Announcement::default().emit(&mut json);
    corpus.push(json);
    // Whole datagrams with media, RTCP and something else, in the clear.
    let ends = [
        Addresses::V4 { source: [192, 0, 0, 2], destination: [192, 0, 0, 1] },
        Addresses::V6 { source: [1; 16], destination: [2; 16] },
    ];
    for addresses in ends {
        for (port, content) in [(1968, &corpus[4][8..]), (1969, &corpus[1][8..]), (53, b"else".as_slice())] {
            let mut whole = vec![0x10, 0x08, 0x08, 0x00, 0, 0, 0, 7];
            let ports = ReducedHeader { source: 0x8000, destination: port };
            datagram::emit(addresses, ports, &mut whole, |out| out.extend_from_slice(content));
            wholes.push(whole);
        }
    }
    corpus.extend(wholes);
    corpus
}
