package envoymodel

import (
	"net/netip"
	"strings"
)

// clientAddress finds the address that counts as the client's, and whether a
// request with that address may be internal at all.
func (l Listener) clientAddress(h Header, peer netip.Addr) (client netip.Addr, mayBeInternal bool) {
	if l.UseRemoteAddress {
		return l.clientOfPeer(h, peer), !h.has("x-forwarded-for") // ED-1: also with an empty one it may not
	}
	return l.clientOfForwardedFor(h, peer)
}

// clientOfPeer is ED-1: the peer, or with N trusted hops the N-th address of
// x-forwarded-for from the right, if there is a usable one.
func (l Listener) clientOfPeer(h Header, peer netip.Addr) netip.Addr {
	if l.XFFNumTrustedHops == 0 {
		return peer
	}
	addresses := forwardedFor(h)
	n := len(addresses) - l.XFFNumTrustedHops
	if n < 0 {
		return peer // ED-1: fewer than N
	}
	if client, ok := bareIP(addresses[n]); ok {
		return client
	}
	return peer // ED-1: no bare address
}

// clientOfForwardedFor is ED-2: the last address of x-forwarded-for once N are
// skipped. Without a usable one it is the peer, who is external.
func (l Listener) clientOfForwardedFor(h Header, peer netip.Addr) (client netip.Addr, mayBeInternal bool) {
	addresses := forwardedFor(h)
	n := len(addresses) - 1 - l.XFFNumTrustedHops
	if n < 0 {
		return peer, false
	}
	client, ok := bareIP(addresses[n])
	if !ok {
		return peer, false
	}
	return client, len(addresses) == 1 && l.XFFNumTrustedHops == 0
}

// forwardedFor returns the members of x-forwarded-for, without the white space
// around them; members may be empty or no addresses. An absent header has none.
func forwardedFor(h Header) []string {
	if !h.has("x-forwarded-for") {
		return nil
	}
	members := strings.Split(h.get("x-forwarded-for"), ",")
	for i := range members {
		members[i] = strings.Trim(members[i], " \t")
	}
	return members
}

// bareIP reads an address without port, brackets or zone.
func bareIP(text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	return address, err == nil && address.Zone() == ""
}

// isInternal reports whether an address is in internal_address_config (ED-5).
func (l Listener) isInternal(client netip.Addr) bool {
	ranges := l.InternalCIDRs
	if ranges == nil {
		return false // ED-5: not configured, so nothing is
	}
	if len(ranges) == 0 {
		ranges = privateRanges() // ED-5: configured without ranges
	}
	for _, cidr := range ranges {
		if cidr.Contains(client) {
			return true
		}
	}
	return false
}

// privateRanges are those of ED-5. Of the loopback network one address belongs to them.
func privateRanges() []netip.Prefix {
	var ranges []netip.Prefix
	for _, cidr := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128"} {
		ranges = append(ranges, netip.MustParsePrefix(cidr))
	}
	return ranges
}

// appendForwardedFor adds the peer to x-forwarded-for (ED-8).
func (l Listener) appendForwardedFor(h Header, peer netip.Addr) {
	appends := l.XFFExtensionAppends
	if l.UseRemoteAddress {
		appends = !l.SkipXFFAppend
	}
	if !appends {
		return
	}
	if peer == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		peer = l.LocalAddress // ED-8: exactly this loopback address
	}
	h.set("x-forwarded-for", join(append(h.Lines("x-forwarded-for"), peer.String())))
}
