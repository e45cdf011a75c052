# Ethernet frames in and out, as hexadecimal lines: of a TAP, as the VM behind it would (`tap NAME`), or of any interface (`sniff NAME`).
# Perl is part of every Debian, and can make the two calls that Node cannot.
use strict;
use warnings;
my ($mode, $name) = @ARGV;
my $device;
if ($mode eq "tap") {
    open($device, "+<", "/dev/net/tun") or die "tun: $!";
    my $request = pack("a16 S x22", $name, 0x1002);    # IFF_TAP | IFF_NO_PI
    ioctl($device, 0x400454ca, $request) or die "TUNSETIFF $name: $!";
} else {
    socket($device, 17, 3, unpack("S", pack("n", 3))) or die "packet socket: $!";    # AF_PACKET, SOCK_RAW, ETH_P_ALL
    my $request = pack("a16 i x20", $name, 0);
    ioctl($device, 0x8933, $request) or die "SIOCGIFINDEX $name: $!";
    my $index = unpack("x16 i", $request);
    bind($device, pack("S n l S C C x8", 17, 3, $index, 0, 0, 0)) or die "bind: $!";
}
binmode($device);
$| = 1;
print "ready\n";
my $waiting = "";
while (1) {
    my $ready = "";
    vec($ready, fileno($device), 1) = 1;
    vec($ready, fileno(STDIN), 1) = 1;
    select($ready, undef, undef, undef);
    if (vec($ready, fileno($device), 1)) {
        sysread($device, my $frame, 65536) or last;
        print unpack("H*", $frame), "\n";
    }
    if (vec($ready, fileno(STDIN), 1)) {
        sysread(STDIN, $waiting, 65536, length $waiting) or last;
        while ($waiting =~ s/^([0-9a-f]*)\n//) { syswrite($device, pack("H*", $1)); }
    }
}
