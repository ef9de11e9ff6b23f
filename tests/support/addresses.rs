//! What must never be reached from an address that a stranger chose, in every spelling a URL allows. Used by
//! the address guard's own tests and against the whole server.

/// First, last, and something in between of every range that is no public host: this network, private,
/// a carrier's and link-local ones with the metadata of clouds, loopback, protocols, documentation,
/// relays, benchmarks, multicast, reserved, broadcast; the same in IPv6, and IPv4 inside of IPv6.
pub const SPECIAL: &str = "
    0.0.0.0 0.0.0.1 0.255.255.255
    10.0.0.0 10.0.0.1 10.1.2.3 10.255.255.255 172.16.0.0 172.16.0.1 172.20.10.2 172.31.255.255 192.168.0.0
    192.168.0.1 192.168.1.1 192.168.255.255
    100.64.0.0 100.64.0.1 100.100.100.200 100.127.255.255
    127.0.0.0 127.0.0.1 127.0.1.1 127.1.2.3 127.255.255.254 127.255.255.255
    169.254.0.0 169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255
    192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.1 192.0.2.255 192.88.99.0
    192.88.99.1 192.88.99.255 198.18.0.0 198.18.0.1 198.19.255.255 198.51.100.0 198.51.100.7 198.51.100.255
    203.0.113.0 203.0.113.9 203.0.113.255
    224.0.0.0 224.0.0.1 232.1.1.1 239.255.255.255 240.0.0.0 240.0.0.1 250.1.2.3 255.255.255.254
    255.255.255.255
    :: ::1 ::2 ::ffff:0:0 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:192.168.1.1 ::ffff:169.254.169.254
    ::ffff:0.0.0.0 ::ffff:255.255.255.255 ::ffff:100.64.0.1 ::ffff:a9fe:a9fe ::ffff:7f00:1
    ::127.0.0.1 ::10.0.0.1 ::169.254.169.254 ::8.8.8.8 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
    64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::192.168.0.1 64:ff9b::0.0.0.0
    64:ff9b::224.0.0.1 64:ff9b:1:: 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff::1 64:ff9b:0:0:0:1:808:808 2002::
    2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe:: 2002:808:808::1 2001:: 2001:0:1:2::3
    2001:0:53aa:64c:0:0:80ff:fffe 2a00::5efe:10.0.0.1 2a00:1::200:5efe:127.0.0.1
    2001:1::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1 2001:db8:: 2001:db8:1::5 3fff::1
    3fff:fff:ffff::1 100:: 100::1 5f00::1
    fc00:: fd00::1 fd00:ec2::254 fdff:ffff::1 fe80:: fe80::1 febf::1 fec0::1 ff00:: ff02::1
";

/// How else such a host can be written in a URL: one number, numbers of other bases, parts left out,
/// letters and digits of other scripts, percent signs, names of this machine, IPv6 long and short.
pub const SPELLINGS: &str = "
    2130706433 0x7f000001 017700000001 0x7f.0.0.1 0177.0.0.1 0x7f.1 127.1 127.0.1 0x7f.0x0.0x0.0x1
    0177.0.0.01 0000177.0.0.1 127.0.0x1 0X7F.0.0.1 0x7F000001 127.0.0.1. 2130706433. 0x7f.1. 127.65535
    127.16777215 0x7fffffff
    167772161 0xa000001 012.0.0.1 0xa.0.0.1 10.1 10.0.1 3232235521 0xc0a80001 0300.0250.0.1 0xc0.0xa8.0.1
    192.168.1 192.11010049
    2852039166 0xa9fea9fe 0251.0376.0251.0376 0xa9.0xfe.0xa9.0xfe 169.254.43518 169.16689662 025177524776
    0xa9.254.0251.254
    0 0x0 00 0.0 0.0.0 0x 0. 4294967295 0xffffffff 037777777777 255.16777215
    2886729729 0xac100001 0254.020.0.1 1681915905 0x64400001 3758096385 0xe0000001
    １２７.０.０.１ 127。0。0。1 127．0．0．1 ①②⑦.⓪.⓪.① 𝟙𝟚𝟟.𝟘.𝟘.𝟙 %31%32%37.0.0.1 127%2e0%2e0%2e1 0ₓ7f.1 １０.0.0.1
    １６９.254.169.254
    localhost LOCALHOST localhost. LocalHost. app.localhost a.b.localhost. ｌｏｃａｌｈｏｓｔ l%6fcalhost ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
    %6c%6f%63%61%6c%68%6f%73%74
    [::1] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::] [::FFFF:7F00:1]
    [0:0:0:0:0:ffff:127.0.0.1] [0:0:0:0:0:ffff:7f00:0001] [FE80::1] [FD00:EC2::254] [64:FF9B::7F00:1]
    [2002:7F00:0001::] [::ffff:169.254.169.254] [::127.0.0.1] [2001:DB8::1]
";

/// URLs that are refused whatever host they name, or that hide it.
pub const CRAFTED: [&str; 24] = [
    "",
    "example.com",
    "//example.com",
    "/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "unix:/var/run/docker.sock",
    "http://",
    "https://",
    "http://?x",
    "http://user@example.com/",
    "http://user:word@example.com/",
    "http://:word@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://127.0.0.1#@example.com/",
    "http://example.com:99999/",
    "http://exa mple.com/",
    "http://[fe80::1%25eth0]/",
    "http://[::1/",
    "http://example.com/#part",
];

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}
