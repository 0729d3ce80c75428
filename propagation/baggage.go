package propagation

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/baggage"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// The limits of W3C Baggage. They hold over all lines together, on the way in and on
// the way out. Whole members go, first the newest, which stand last in a header.
const (
	maxBaggageBytes   = 8192
	maxBaggageMembers = 64

	// maxBaggageProperties bounds properties of all members together. The
	// specification has no such limit, but 8 KiB of ";a" would take 400 KiB of memory.
	maxBaggageProperties = 64

	// A line within it is nowhere near the limits, whatever its escapes say.
	usualBaggage = 512
)

const (
	ruleBaggageLen      = "Baggage, limits: at most 8192 bytes over all lines"
	ruleBaggageMembers  = "Baggage, limits: at most 64 list-members over all lines"
	ruleBaggageKey      = "Baggage, key: a token of RFC 7230"
	ruleBaggageMember   = `Baggage, list-member: key "=" value`
	ruleBaggageValue    = "Baggage, value: printable ASCII without space, comma, semicolon, quote and backslash, percent-encoded"
	ruleBaggageProperty = "Baggage, property: here at most 64 over all list-members"
)

// parseBaggage reads the lines of a baggage header as readBaggage does.
func parseBaggage(lines []string) (baggage.Baggage, fault) {
	if len(lines) == 1 && plainBaggage(lines[0]) {
		// OpenTelemetry's parser makes the same of it, and does not count, escape and
		// copy a second time what New is given.
		if b, err := baggage.Parse(lines[0]); err == nil {
			return b, fault{}
		}
	}
	return readBaggage(lines)
}

// plainBaggage reports whether line is written as most programs write it: members
// without anything left out, white space around them alone, and no escapes in
// properties, of which OpenTelemetry keeps the text.
func plainBaggage(line string) bool {
	if len(line) > usualBaggage {
		return false
	}
	members, props := 0, 0
	for at := 0; ; at++ {
		for at < len(line) && isOWS(line[at]) {
			at++
		}
		end := skip(line, at, tokenByte)
		if end == at || end == len(line) || line[end] != '=' {
			return false
		}
		at = end + 1
		for at < len(line) && (line[at] == '%' || baggageBytes[line[at]]&octetByte != 0) {
			at++ // the parser looks whether escapes are ones
		}
		for at < len(line) && line[at] == ';' {
			end = skip(line, at+1, tokenByte)
			if props++; end == at+1 {
				return false
			}
			if at = end; at < len(line) && line[at] == '=' {
				at = skip(line, at+1, octetByte)
			}
		}
		if members++; members > maxBaggageMembers || props > maxBaggageProperties {
			return false
		}
		if at == len(line) {
			return true
		}
		if line[at] != ',' {
			return false
		}
	}
}

// skip returns the index of the first byte of s from at on that is not of class.
func skip(s string, at int, class byte) int {
	for at < len(s) && baggageBytes[s[at]]&class != 0 {
		at++
	}
	return at
}

// readBaggage reads the lines of a baggage header as one list. Members beyond the
// limits are dropped without being looked at, malformed ones are dropped alone. Of
// members with one key the last counts, as OpenTelemetry has it. The fault is the
// first one.
func readBaggage(lines []string) (baggage.Baggage, fault) {
	var (
		few     [8]baggage.Member // keeps what is usual off the heap
		members = few[:0]
		props   = maxBaggageProperties // left
		room    = maxBaggageBytes      // bytes of input left
		size    = -1                   // bytes that members take when they are written again
		seen    int
		first   fault
	)
	blame := func(line string, offset int, rule string) {
		if first.rule == "" {
			first = fault{baggageHeader.Lower, line, offset, rule}
		}
	}
read:
	for _, line := range lines {
		if room < 0 {
			blame(line, 0, ruleBaggageLen)
			break
		}
		for at := 0; at < len(line); {
			end := at
			for end < len(line) && end < room && line[end] != ',' {
				end++
			}
			if at > room || end == room && end < len(line) && line[end] != ',' {
				blame(line, room, ruleBaggageLen) // a member is never cut
				break read
			}
			from, to := trimOWS(line, at, end)
			at = end + 1
			if from == to {
				continue // RFC 9110, 5.6.1: empty elements are ignored
			}
			if seen++; seen > maxBaggageMembers {
				blame(line, from, ruleBaggageMembers)
				break read
			}
			m, n, offset, rule := parseBaggageMember(line[from:to], &props)
			if rule != "" {
				blame(line, from+offset, rule)
				continue
			}
			if size += 1 + n; size > maxBaggageBytes {
				// A byte that is not UTF-8 arrives in three bytes and goes on in nine.
				blame(line, from, ruleBaggageLen)
				break read
			}
			members = append(members, m)
		}
		room -= len(line) + 1
	}
	if len(members) == 0 {
		return baggage.Baggage{}, first
	}
	b, err := baggage.New(members...)
	if err != nil { // a stricter OpenTelemetry than the one of go.mod
		blame(lines[0], 0, ruleBaggageMember)
	}
	return b, first
}

// parseBaggageMember reads key=value;property;property=value and takes its
// properties off those left. size is what the member takes when it is written again.
func parseBaggageMember(s string, left *int) (m baggage.Member, size, offset int, rule string) {
	end := strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	key, value, found, offset, rule := parseBaggagePair(s, 0, end)
	switch {
	case rule != "":
		return m, 0, offset, rule
	case !found:
		return m, 0, end, ruleBaggageMember
	}
	size = len(key) + 1 + escapedLen(value)

	var props []baggage.Property
	for at := end + 1; at <= len(s); at = end + 1 {
		end = at
		for end < len(s) && s[end] != ';' {
			end++
		}
		if from, to := trimOWS(s, at, end); from == to {
			continue // "a=1;" is read as well
		}
		if *left--; *left < 0 {
			return m, 0, at, ruleBaggageProperty
		}
		k, v, found, offset, rule := parseBaggagePair(s, at, end)
		if rule != "" {
			return m, 0, offset, rule
		}
		var (
			p   baggage.Property
			err error
		)
		size += 1 + len(k)
		if found {
			size += 1 + escapedLen(v)
			p, err = baggage.NewKeyValuePropertyRaw(k, v)
		} else {
			p, err = baggage.NewKeyProperty(k)
		}
		if err != nil { // a stricter OpenTelemetry than the one of go.mod
			return m, 0, at, ruleBaggageMember
		}
		props = append(props, p)
	}
	m, err := baggage.NewMemberRaw(key, value, props...)
	if err != nil { // likewise
		return m, 0, 0, ruleBaggageMember
	}
	return m, size, 0, ""
}

// parseBaggagePair reads key=value, or key alone, out of s[from:to] and decodes the
// value.
func parseBaggagePair(s string, from, to int) (key, value string, found bool, offset int, rule string) {
	eq := from
	for eq < to && s[eq] != '=' {
		eq++
	}
	kf, kt := trimOWS(s, from, eq)
	if kf == kt {
		return "", "", false, kf, ruleBaggageKey
	}
	for i := kf; i < kt; i++ {
		if baggageBytes[s[i]]&tokenByte == 0 {
			return "", "", false, i, ruleBaggageKey
		}
	}
	key = s[kf:kt]
	if eq == to {
		return key, "", false, 0, ""
	}
	vf, vt := trimOWS(s, eq+1, to)
	escapes := 0
	for i := vf; i < vt; i++ {
		switch c := s[i]; {
		case c == '%':
			if vt-i < 3 || hexTable[s[i+1]]&hexTable[s[i+2]]&anyHex == 0 {
				return "", "", false, i, ruleBaggageValue
			}
			escapes++
		case baggageBytes[c]&octetByte == 0:
			return "", "", false, i, ruleBaggageValue
		}
	}
	value = s[vf:vt]
	if escapes > 0 {
		var ok bool
		if value, ok = percentDecode(value, escapes); !ok {
			return "", "", false, vf, ruleBaggageLen
		}
	}
	return key, value, true, 0, ""
}

// percentDecode decodes s, which has that many well-formed escapes. Each byte that
// then fits into no UTF-8 sequence becomes U+FFFD, as the specification has it; false
// when these alone would take more than all of a baggage may when they are written.
func percentDecode(s string, escapes int) (string, bool) {
	var b strings.Builder
	b.Grow(len(s) - 2*escapes)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			c = hexTable[s[i+1]]<<4 | hexTable[s[i+2]]&0xf
			i += 2
		}
		b.WriteByte(c)
	}
	decoded := b.String()
	if utf8.ValidString(decoded) {
		return decoded, true
	}
	const written = len("%EF%BF%BD")
	bad := 0
	for i, r := range decoded {
		if r == utf8.RuneError && !strings.HasPrefix(decoded[i:], "\uFFFD") {
			bad++
		}
	}
	if bad*written > maxBaggageBytes {
		return "", false
	}
	b.Reset()
	b.Grow(len(decoded) + bad*(len("\uFFFD")-1))
	for _, r := range decoded {
		b.WriteRune(r)
	}
	return b.String(), true
}

// Classes of baggageBytes.
const (
	tokenByte byte = 1 << iota // may stand in a key: RFC 7230, 3.2.6
	octetByte                  // may stand in a value as it is: baggage-octet without "%"
)

// baggageBytes classifies each byte.
var baggageBytes = [256]byte{
	'!': 3, '"': 0, '#': 3, '$': 3, '%': 1, '&': 3, '\'': 3, '(': 2, ')': 2, '*': 3, '+': 3, ',': 0, '-': 3, '.': 3, '/': 2,
	'0': 3, '1': 3, '2': 3, '3': 3, '4': 3, '5': 3, '6': 3, '7': 3, '8': 3, '9': 3,
	':': 2, ';': 0, '<': 2, '=': 2, '>': 2, '?': 2, '@': 2,
	'A': 3, 'B': 3, 'C': 3, 'D': 3, 'E': 3, 'F': 3, 'G': 3, 'H': 3, 'I': 3, 'J': 3, 'K': 3, 'L': 3, 'M': 3,
	'N': 3, 'O': 3, 'P': 3, 'Q': 3, 'R': 3, 'S': 3, 'T': 3, 'U': 3, 'V': 3, 'W': 3, 'X': 3, 'Y': 3, 'Z': 3,
	'[': 2, '\\': 0, ']': 2, '^': 3, '_': 3, '`': 3,
	'a': 3, 'b': 3, 'c': 3, 'd': 3, 'e': 3, 'f': 3, 'g': 3, 'h': 3, 'i': 3, 'j': 3, 'k': 3, 'l': 3, 'm': 3,
	'n': 3, 'o': 3, 'p': 3, 'q': 3, 'r': 3, 's': 3, 't': 3, 'u': 3, 'v': 3, 'w': 3, 'x': 3, 'y': 3, 'z': 3,
	'{': 2, '|': 3, '}': 2, '~': 3,
}

func isToken(s string) bool {
	for i := range len(s) {
		if baggageBytes[s[i]]&tokenByte == 0 {
			return false
		}
	}
	return s != ""
}

// escapedLen is the length of what appendEscaped appends.
func escapedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if baggageBytes[s[i]]&octetByte == 0 {
			n += 2
		}
	}
	return n
}

// appendEscaped appends s with every byte percent-encoded that may not stand in a
// value, control bytes among them.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; baggageBytes[c]&octetByte != 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&0xf])
		}
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

// baggageValue returns b as a header value within the limits, members in the order of
// their keys, for OpenTelemetry's Baggage has none. Where they do not all fit, those
// go first that did not arrive with the request, whose state is s or nil; the last by
// key before the others. Members whose key is no token cannot be written.
func baggageValue(b baggage.Baggage, s *reqctx.State) string {
	var few [8]keyed // keeps what is usual off the heap
	members := sortedMembers(few[:0], b.Members())
	var usual [512]byte // longer ones grow on the heap
	v, all := appendMembers(usual[:0], members)
	if !all && s != nil {
		arrivedFirst(members, s)
		v, _ = appendMembers(v[:0], members)
	}
	return string(v)
}

// keyed is a member with its key, which costs a copy of the member each time it is
// asked for.
type keyed struct {
	key    string
	member *baggage.Member
}

// sortedMembers appends members to dst in the order of their keys.
func sortedMembers(dst []keyed, members []baggage.Member) []keyed {
	for i := range members {
		dst = append(dst, keyed{members[i].Key(), &members[i]})
	}
	slices.SortFunc(dst, byKey)
	return dst
}

func byKey(a, b keyed) int { return strings.Compare(a.key, b.key) }

// arrivedFirst puts members in front of all others whose key arrived with the request
// whose state is s.
func arrivedFirst(members []keyed, s *reqctx.State) {
	arrived := baggage.FromContext(s.Context) // below the state
	isNew := func(m keyed) int {
		if arrived.Member(m.key).Key() != "" {
			return 0
		}
		return 1
	}
	slices.SortFunc(members, func(a, b keyed) int {
		return cmp.Or(cmp.Compare(isNew(a), isNew(b)), byKey(a, b))
	})
}

// appendMembers appends members until the limits are reached and reports whether all
// did fit. One that alone is too large never fits and makes no room for others.
func appendMembers(dst []byte, members []keyed) (out []byte, all bool) {
	all = true
	n := 0
	for _, m := range members {
		if !isToken(m.key) {
			continue
		}
		before := len(dst)
		if n > 0 {
			dst = append(dst, ',')
		}
		from := len(dst)
		dst = append(dst, m.key...)
		dst = append(dst, '=')
		dst = appendEscaped(dst, m.member.Value())
		dst = appendProperties(dst, m.member.Properties())
		switch {
		case len(dst)-from > maxBaggageBytes:
			dst, all = dst[:before], false
		case len(dst) > maxBaggageBytes || n == maxBaggageMembers:
			return dst[:before], false
		default:
			n++
		}
	}
	return dst, all
}

func appendProperties(dst []byte, props []baggage.Property) []byte {
	for _, p := range props {
		if !isToken(p.Key()) {
			continue
		}
		dst = append(dst, ';')
		dst = append(dst, p.Key()...)
		if v, ok := p.Value(); ok {
			dst = append(dst, '=')
			dst = appendEscaped(dst, v)
		}
	}
	return dst
}

// item is an entry of baggage in a format that knows no properties.
type item struct{ key, value string }

// memberLen is the length of m in a header.
func memberLen(m baggage.Member) int {
	n := len(m.Key()) + 1 + escapedLen(m.Value())
	for _, p := range m.Properties() {
		n += 1 + len(p.Key())
		if v, ok := p.Value(); ok {
			n += 1 + escapedLen(v)
		}
	}
	return n
}

// addItems returns b with the items whose keys it does not have, under the limits that
// hold for all of them together; all is false when one had no place or was none.
func addItems(b baggage.Baggage, items []item) (sum baggage.Baggage, all bool) {
	members := b.Members()
	size, all := -1, true
	for _, m := range members {
		size += 1 + memberLen(m)
	}
	for _, it := range items {
		if b.Member(it.key).Key() != "" {
			continue
		}
		n := len(it.key) + 1 + len(it.value)
		if len(members) == maxBaggageMembers || size+1+n > maxBaggageBytes {
			return newBaggage(b, members), false
		}
		if n += escapedLen(it.value) - len(it.value); size+1+n > maxBaggageBytes {
			return newBaggage(b, members), false
		}
		m, err := baggage.NewMemberRaw(it.key, it.value)
		if err != nil { // a stricter OpenTelemetry than the one of go.mod
			all = false
			continue
		}
		members = append(members, m)
		size += 1 + n
	}
	return newBaggage(b, members), all
}

// newBaggage returns members as a Baggage, b where they cannot be one.
func newBaggage(b baggage.Baggage, members []baggage.Member) baggage.Baggage {
	if sum, err := baggage.New(members...); err == nil { // or a stricter OpenTelemetry than the one of go.mod
		return sum
	}
	return b
}

// firstItems keeps of the items that are added those 64 whose keys come first, in
// their order.
type firstItems struct {
	list []item
	more bool // some were left out
}

func (f *firstItems) add(key, value string) {
	n := len(f.list)
	if n == maxBaggageMembers {
		f.more = true
		if n--; key >= f.list[n].key {
			return
		}
		f.list = f.list[:n]
	}
	switch cap(f.list) {
	case 0:
		f.list = make([]item, 0, 8)
	case n: // at once, since somebody sends many
		f.list = append(make([]item, 0, maxBaggageMembers), f.list...)
	}
	at, _ := slices.BinarySearchFunc(f.list, key, func(it item, key string) int { return cmp.Compare(it.key, key) })
	f.list = slices.Insert(f.list, at, item{key, value})
}

// unescape decodes percent-encoded bytes, and with plus a "+" as space; where an escape
// is malformed s is what was meant. It is false for what percentDecode refuses.
func unescape(s string, plus bool) (string, bool) {
	escapes, pluses := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+' && plus:
			pluses = true
		case s[i] == '%':
			if len(s)-i < 3 || hexTable[s[i+1]]&hexTable[s[i+2]]&anyHex == 0 {
				return s, true
			}
			escapes++
			i += 2
		}
	}
	if pluses {
		s = strings.ReplaceAll(s, "+", " ")
	}
	if escapes == 0 {
		return s, true
	}
	return percentDecode(s, escapes)
}

// escapeFor encodes the bytes of s that a header cannot carry, and those that
// unescape would change.
func escapeFor(s string, plus bool) string {
	plain := func(i int) bool {
		c := s[i]
		return ' ' < c && c <= '~' && c != '%' && !(plus && c == '+') || c == ' ' && 0 < i && i < len(s)-1
	}
	n := 0
	for i := range len(s) {
		if !plain(i) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	dst := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if plain(i) {
			dst = append(dst, s[i])
		} else {
			dst = append(dst, '%', upperHex[s[i]>>4], upperHex[s[i]&0xf])
		}
	}
	return string(dst)
}

// outgoingItems returns the members of b as items within the limits, as baggageValue has
// them, for formats that have neither properties nor keys which are no tokens.
func outgoingItems(b baggage.Baggage, s *reqctx.State) []item {
	members := sortedMembers(nil, b.Members())
	items := make([]item, 0, min(len(members), maxBaggageMembers))
	fill := func() (all bool) {
		size := 0
		all = true
		for _, m := range members {
			value := m.member.Value()
			n := len(m.key) + len(value)
			if !isToken(m.key) {
				continue
			}
			if len(items) == maxBaggageMembers || size+n > maxBaggageBytes {
				all = false
				continue
			}
			size += n
			items = append(items, item{m.key, value})
		}
		return all
	}
	if !fill() && s != nil {
		arrivedFirst(members, s)
		items = items[:0]
		fill()
	}
	return items
}
