package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// Edge says who is inside and how many proxies stand in front. A service that
// strangers reach without an Envoy before it has one. The zero value trusts nobody:
// every request is a stranger's, its trace is not continued but linked, its request
// id is replaced, and it can force no trace.
//
// What a stranger's request loses is what Envoy removes: ED-6, ED-9 and ED-10; and in a
// gateway the trace headers and baggage that do not enter.
type Edge struct {
	// Internal are the addresses that count as inside (ED-3, ED-5); nil is nobody.
	// Private addresses are not inside by themselves.
	Internal []netip.Prefix
	// UnixSockets says that peers on unix sockets are inside (ED-5). As for any peer it
	// holds for requests without x-forwarded-for, and never with Inner (ED-1, ED-2).
	UnixSockets bool
	// Hops is how many trusted proxies stand in front, 0 to 64: so many addresses at
	// the end of x-forwarded-for are theirs (ED-1, ED-2).
	Hops int
	// Proxies are the addresses of trusted proxies, in the place of Hops, where their
	// number differs from request to request: the xff_trusted_cidrs of Envoy's XFF
	// extension (ED-8). Of a peer among them the client's address is the last one in
	// x-forwarded-for that is not; of any other peer it is the peer's own. nil is none.
	Proxies []netip.Prefix
	// Inner is Envoy's use_remote_address: false. The address comes from
	// x-forwarded-for alone, and a request from outside is sanitised but keeps its
	// request id: it passed an edge before (ED-4).
	Inner bool
	// Context says what becomes of a stranger's trace context.
	Context EdgeContext
	// ForcedPerSecond is how many traces a second strangers may force, by
	// x-client-trace-id, a B3 debug or sampled flag, or the reason in a preserved
	// request id: 0 none, math.Inf(1) any number, as Envoy. What is above is decided as
	// if it had not asked.
	ForcedPerSecond float64
	// Baggage are the keys of a stranger's baggage that may enter; nil is none, "*"
	// alone is all.
	Baggage []string
}

// EdgeContext is what becomes of a stranger's trace context.
type EdgeContext uint8

const (
	// Restart begins a new trace with a link to the stranger's span.
	Restart EdgeContext = iota
	// Continue goes on with the stranger's trace, as Envoy does (ED-11).
	Continue
	// Ignore begins a new trace that knows nothing of the stranger's.
	Ignore
)

// String returns the name of c in lower case.
func (c EdgeContext) String() string {
	switch c {
	case Restart:
		return "restart"
	case Continue:
		return "continue"
	case Ignore:
		return "ignore"
	}
	return fmt.Sprintf("EdgeContext(%d)", uint8(c))
}

// EnvoyEdge returns what an Envoy listener does with its defaults: nobody is internal
// (ED-5), the address comes from x-forwarded-for (ED-2), and a stranger's context,
// baggage and wish for a trace are taken as they come (ED-11).
func EnvoyEdge() Edge {
	return Edge{Inner: true, Context: Continue, ForcedPerSecond: math.Inf(1), Baggage: []string{"*"}}
}

const (
	maxHops        = 64
	maxBaggageKeys = 64
)

// check returns every mistake in e.
func (e *Edge) check() error {
	var errs []error
	for i, p := range e.Internal {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("middleware: Config.Edge.Internal[%d] is no prefix: allowed is such as 10.0.0.0/8", i))
		}
	}
	for i, p := range e.Proxies {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("middleware: Config.Edge.Proxies[%d] is no prefix: allowed is such as 10.0.0.0/8", i))
		}
	}
	if e.Hops != 0 && len(e.Proxies) > 0 {
		errs = append(errs, fmt.Errorf("middleware: Config.Edge.Hops=%d beside Proxies: allowed is one of them", e.Hops))
	}
	if e.Hops < 0 || e.Hops > maxHops {
		errs = append(errs, fmt.Errorf("middleware: Config.Edge.Hops=%d: allowed is 0 to %d", e.Hops, maxHops))
	}
	if e.Context > Ignore {
		errs = append(errs, fmt.Errorf("middleware: Config.Edge.Context=%v: allowed is Restart, Continue or Ignore", e.Context))
	}
	if !(e.ForcedPerSecond >= 0) {
		errs = append(errs, fmt.Errorf("middleware: Config.Edge.ForcedPerSecond=%v: allowed is 0 and above, math.Inf(1) for no limit", e.ForcedPerSecond))
	}
	if len(e.Baggage) > maxBaggageKeys || (len(e.Baggage) > 1 && slices.Contains(e.Baggage, "*")) || slices.Contains(e.Baggage, "") {
		errs = append(errs, fmt.Errorf("middleware: Config.Edge.Baggage has %d keys: allowed are at most %d that are not empty, or \"*\" alone", len(e.Baggage), maxBaggageKeys))
	}
	return errors.Join(errs...)
}

// origin is where a request comes from.
type origin struct {
	client   netip.Addr // the address taken for the client's; invalid when unknown
	internal bool       // ED-3
	edge     bool       // ED-4
}

// stranger tells whether the request is from outside.
func (o origin) stranger() bool { return !o.internal }

var forwardedFor = headers.Name{Canonical: "X-Forwarded-For", Lower: "x-forwarded-for"}

const forwardedProto = "X-Forwarded-Proto"

// What is looked at of x-forwarded-for, in bytes and in lines: more than the addresses
// of as many hops as can be trusted, and than an Envoy takes (max_headers_count).
const (
	maxForwarded      = 3 << 10
	maxForwardedLines = 100
)

// origin tells where a request of a peer comes from, which may be on a unix socket. xff
// are the lines of x-forwarded-for.
func (e *Edge) origin(peer netip.Addr, unix bool, xff []string) origin {
	list, present := joinForwarded(xff)
	o := origin{client: peer, edge: !e.Inner}
	possible := false // may be internal at all
	switch {
	case len(e.Proxies) > 0 && present && within(e.Proxies, peer.Unmap()): // ED-8
		if a, alone, ok := lastUntrusted(list, e.Proxies); ok {
			o.client, possible = a, alone
		}
	case len(e.Proxies) > 0:
		possible = !e.Inner && !present
	case !e.Inner: // ED-1
		possible = !present
		if e.Hops > 0 {
			if a, _, ok := lastAddress(list, e.Hops-1); ok {
				o.client = a
			}
		}
	case present: // ED-2
		if a, alone, ok := lastAddress(list, e.Hops); ok {
			o.client, possible = a, alone
		}
	}
	client := o.client
	if client == peer {
		client = peer.Unmap() // of a socket for both families
	}
	if possible && (within(e.Internal, client) || unix && e.UnixSockets && !o.client.IsValid()) {
		o.internal, o.edge = true, false
	}
	return o
}

// within tells whether a is in one of list.
func within(list []netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.WithZone("")
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// joinForwarded joins the lines of x-forwarded-for as Envoy does (O-4), and tells
// whether there is one. A list that is too long keeps its end, which is what counts.
func joinForwarded(lines []string) (list string, present bool) {
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		list = lines[0]
	default:
		var kept [1 + maxForwardedLines]string
		first, room := len(kept), maxForwarded
		for i := len(lines) - 1; i >= 0; i-- {
			if room <= 0 || len(lines)-i > maxForwardedLines {
				first-- // an empty one tells that there were more
				break
			}
			if l := lines[i]; l != "" {
				first--
				kept[first] = l[max(0, len(l)-room):]
				room -= len(l) + 1
			}
		}
		list = strings.Join(kept[first:], ",")
	}
	if len(list) > maxForwarded {
		list = list[len(list)-maxForwarded:]
	}
	return list, true
}

// lastAddress returns the address before the last skip ones of a list, and whether it
// is the only one in it. It is false when there is none or it is no bare address.
func lastAddress(list string, skip int) (a netip.Addr, alone, ok bool) {
	for range skip {
		i := strings.LastIndexByte(list, ',')
		if i < 0 {
			return netip.Addr{}, false, false
		}
		list = list[:i]
	}
	i := strings.LastIndexByte(list, ',')
	a, ok = bareAddress(strings.Trim(list[i+1:], " \t"))
	return a, ok && i < 0 && skip == 0, ok
}

// bareAddress reads an address without a port, brackets or a zone, whose text would be
// anybody's (ED-1, ED-2). An IPv4 address in the form of IPv6 stays one of IPv6, as in Envoy.
func bareAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a, true
}

// lastUntrusted returns the last address of a list that is not in trusted, the first of
// all when each is, and whether it is the only one in the list. Empty entries do not
// count. It is false when there is none, when one that it passes is no bare address, and
// after as many as nobody has in front.
func lastUntrusted(list string, trusted []netip.Prefix) (a netip.Addr, alone, ok bool) {
	n := 0
	for list != "" {
		i := strings.LastIndexByte(list, ',')
		entry := strings.Trim(list[i+1:], " \t")
		list = list[:max(i, 0)]
		if entry == "" {
			continue
		}
		if a, ok = bareAddress(entry); !ok || n == maxHops {
			return netip.Addr{}, false, false
		}
		n++
		if !within(trusted, a) {
			break
		}
	}
	return a, n == 1 && strings.Trim(list, ", \t") == "", n > 0
}

// noteStranger reports the first request that reached a program without an Edge from
// a public address and without a sign of a proxy in front: what it says is trusted.
func (t *Tracing) noteStranger(in *Incoming, src *headers.Source) {
	if t.stranger.Load() || len(src.Lines(&forwardedFor)) > 0 {
		return
	}
	if in.meet(); !in.Peer.IsGlobalUnicast() || in.Peer.IsPrivate() {
		return
	}
	for _, n := range t.names.marks {
		if len(src.Lines(&n)) > 0 {
			return
		}
	}
	if !t.stranger.Swap(true) {
		t.log(slog.LevelWarn, "meshtrace: "+strangerNote)
	}
}

const strangerNote = "a request came straight from a public address, and its ids, trace and baggage are trusted: " +
	"set Config.Edge, or put a proxy that sanitises headers in front"

// receive takes from what a stranger's headers say what may not enter.
func (e *Edge) receive(ext *propagation.Extraction) {
	switch e.Context {
	case Restart:
		sc := ext.SpanContext
		if sc.IsValid() {
			// A link is for those who look, and carries no foreign tracestate.
			sc = sc.WithTraceState(trace.TraceState{})
		}
		*ext = propagation.Extraction{Other: sc, Baggage: ext.Baggage}
	case Ignore:
		*ext = propagation.Extraction{Baggage: ext.Baggage}
	}
	ext.Baggage = e.filter(ext.Baggage)
}

// allBaggage tells whether any key may enter.
func (e *Edge) allBaggage() bool { return len(e.Baggage) == 1 && e.Baggage[0] == "*" }

// filter returns the members of b that may enter.
func (e *Edge) filter(b baggage.Baggage) baggage.Baggage {
	if b.Len() == 0 || e.allBaggage() {
		return b
	}
	for _, m := range b.Members() {
		if !slices.Contains(e.Baggage, m.Key()) {
			b = b.DeleteMember(m.Key())
		}
	}
	return b
}

// edits tells whether edit may change the headers of a request from c's origin.
func (c *serverCall) edits() bool {
	return c.tracing.edge != nil || c.tracing.role == Gateway
}

// edit returns the headers of h that go on, as Envoy passes them on: O-5, ED-6 to
// ED-10, ED-13. peer and tls tell how h came. h is not changed; without anything to change it is
// what comes back.
func (c *serverCall) edit(h http.Header, peer netip.Addr, tls bool) http.Header {
	e := headerEdit{from: h}
	t, o := c.tracing, c.origin
	names := t.names
	if t.edge != nil {
		e.remove(names.internal.Canonical) // ED-6
		if o.stranger() {
			if o.edge {
				e.remove(names.edge...)
			}
			e.remove(names.router...)
			e.remove(names.external...)
			e.remove(t.proxy.InternalOnly...)
		} else {
			e.set(names.internal.Canonical, "true")
		}
		if o.edge && o.client.IsValid() {
			e.set(names.externalAddress.Canonical, o.client.String()) // ED-7
		}
	}
	if t.role == Gateway {
		if t.edge != nil && o.stranger() {
			c.removeForeign(&e)
		}
		c.editGateway(&e, peer, tls)
	}
	return e.result()
}

// foreignTrace are the headers by which a stranger's trace would go on, and foreignItems
// how the names of those begin that carry its baggage one by one.
var (
	foreignTrace = propagation.Headers(propagation.TraceContext, propagation.B3, propagation.B3Multi,
		propagation.OTSpanContext, propagation.OTTrace, propagation.Jaeger)
	foreignItems = []string{"Ot-Baggage-", "Uberctx-"}
)

// removeForeign removes what Edge.Context and Edge.Baggage keep out from the headers that
// a gateway passes on.
func (c *serverCall) removeForeign(e *headerEdit) {
	edge := c.tracing.edge
	if edge.Context != Continue {
		e.remove(foreignTrace...)
	}
	if edge.allBaggage() {
		return
	}
	for name := range e.result() {
		for _, prefix := range foreignItems {
			if strings.HasPrefix(name, prefix) {
				e.remove(name)
			}
		}
	}
	if b := baggage.FromContext(c.State.Context); b.Len() > 0 {
		e.set("Baggage", b.String())
	} else {
		e.remove("Baggage")
	}
}

// editGateway edits what only a proxy writes.
func (c *serverCall) editGateway(e *headerEdit, peer netip.Addr, tls bool) {
	t := c.tracing
	if id := string(c.Call.RequestID()); id != "" {
		e.set(requestid.Header, id) // RID-1 to RID-5, with the digit of the decision
	} else if c.emptyID { // RID-19
		e.set(requestid.Header, "")
	} else {
		e.remove(requestid.Header)
	}
	e.remove(t.names.router...)
	for _, n := range t.names.slots { // O-4
		if lines := e.get(n); len(lines) > 1 {
			e.set(n, headers.Joined(lines))
		}
	}
	c.editOperation(e)
	c.editForwardedFor(e, peer)
	c.editForwardedProto(e, peer, tls)
	if t.proxy.AddUserAgent { // ED-13
		e.set(t.names.downstreamCluster.Canonical, t.proxy.Cluster)
		if ua := e.get("User-Agent"); len(ua) == 0 || ua[0] == "" {
			e.set("User-Agent", t.proxy.Cluster)
		}
		if t.proxy.Node != "" {
			e.set(t.names.downstreamNode.Canonical, t.proxy.Node)
		}
	}
}

// editForwardedProto tells the next hop the scheme of the connection, unless a proxy in
// front did. Where the client's address is the peer's, only a trusted one is believed.
func (c *serverCall) editForwardedProto(e *headerEdit, peer netip.Addr, tls bool) {
	if len(e.get(forwardedProto)) > 0 && c.tracing.believesProto(peer) {
		return
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	e.set(forwardedProto, scheme)
}

// editForwardedFor joins the lines of x-forwarded-for (O-4) and adds the peer (ED-8).
func (c *serverCall) editForwardedFor(e *headerEdit, from netip.Addr) {
	lines := e.get(forwardedFor.Canonical)
	peer := c.tracing.appended(from)
	if len(lines) < 2 && peer == "" {
		return
	}
	list := strings.Join(slices.DeleteFunc(slices.Clone(lines), isEmpty), ",")
	if list != "" && peer != "" {
		list += ","
	}
	e.set(forwardedFor.Canonical, list+peer)
}

// appended returns what is added to x-forwarded-for for a request of peer; "" is
// nothing.
func (t *Tracing) appended(peer netip.Addr) string {
	e := t.edge
	switch {
	case e == nil || !peer.IsValid():
		return ""
	case !e.Inner && t.proxy.KeepForwardedFor:
		return ""
	case e.Inner && !t.proxy.AddForwardedFor && (len(e.Proxies) == 0 || within(e.Proxies, peer.Unmap())):
		return ""
	case peer == loopback && t.proxy.Address.IsValid():
		return t.proxy.Address.String()
	}
	return peer.String()
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func isEmpty(s string) bool { return s == "" }

// headerEdit changes headers in a copy, made at the first change.
type headerEdit struct {
	from, copied http.Header
}

func (e *headerEdit) result() http.Header {
	if e.copied != nil {
		return e.copied
	}
	return e.from
}

func (e *headerEdit) get(name string) []string { return e.result()[name] }

func (e *headerEdit) copy() {
	if e.copied != nil {
		return
	}
	e.copied = make(http.Header, len(e.from)+4)
	for k, v := range e.from {
		e.copied[k] = v[:len(v):len(v)]
	}
}

func (e *headerEdit) set(name, value string) {
	if old := e.get(name); len(old) == 1 && old[0] == value {
		return
	}
	e.copy()
	e.copied[name] = []string{value}
}

func (e *headerEdit) remove(names ...string) {
	for _, n := range names {
		if _, ok := e.result()[n]; ok {
			e.copy()
			delete(e.copied, n)
		}
	}
}

// unnamed are headers that Connection takes nothing from: those that net/http looks
// after, and those that say where a request comes from.
var unnamed = []string{"Connection", "Upgrade", "Te", "X-Forwarded-For", "X-Forwarded-Host", forwardedProto}

// maxConnectionNames is how many names of Connection are looked at: more than a message
// has headers of its hop. (Envoy refuses more than 10.)
const maxConnectionNames = 64

// withoutConnection returns h without the headers that its Connection lines name, as
// RFC 9110 section 7.6.1 asks of whoever passes a request on (O-5), and whether that
// is a copy. h is not changed.
func withoutConnection(h http.Header) (http.Header, bool) {
	var copied http.Header
	names, bytes := maxConnectionNames, maxForwarded
	for _, line := range h["Connection"] {
		if bytes -= len(line) + 1; bytes < 0 {
			break
		}
		for name := range strings.SplitSeq(line, ",") {
			if names--; names < 0 {
				break
			}
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if _, ok := h[name]; !ok || slices.Contains(unnamed, name) {
				continue
			}
			if copied == nil {
				copied = make(http.Header, len(h))
				for k, v := range h {
					copied[k] = v[:len(v):len(v)]
				}
			}
			delete(copied, name)
		}
	}
	if copied == nil {
		return h, false
	}
	return copied, true
}

// withoutSpaces returns h with no spaces and tabs around a value (O-5), and whether that
// is a copy. net/http cuts them in HTTP/1 and leaves them in HTTP/2, where they are
// malformed (RFC 9113, section 8.2.1). With copied, h itself is changed.
func withoutSpaces(h http.Header, copied bool) (http.Header, bool) {
	out := h
	for name, lines := range h {
		for i, v := range lines {
			cut := strings.Trim(v, " \t")
			if len(cut) == len(v) {
				continue
			}
			if !copied {
				out, copied = make(http.Header, len(h)), true
				for k, v := range h {
					out[k] = v[:len(v):len(v)]
				}
			}
			if &out[name][0] == &lines[0] {
				out[name] = slices.Clone(lines)
			}
			out[name][i] = cut
		}
	}
	return out, copied
}
