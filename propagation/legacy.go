package propagation

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/headers"
)

const ruleLegacyBaggage = "Baggage, limits: at most 64 entries and 8192 bytes over all headers, in UTF-8"

// legacyBaggage collects the baggage of formats that carry their own, in the order in
// which they are read.
type legacyBaggage struct {
	items  []item
	header string // where the first of them came from
	size   int    // bytes of input that were taken
	cut    bool   // some had no place
}

// add adds an entry whose value came percent-encoded, with plus also a "+" for a
// space, or as it is. It is false when nothing more has a place.
func (l *legacyBaggage) add(header, key, value string, plus bool) bool {
	if l.header == "" {
		l.header = header
	}
	if l.size += len(key) + len(value); len(l.items) == maxBaggageMembers || l.size > maxBaggageBytes {
		l.cut = true
		return false
	}
	if v, ok := unescape(value, plus); ok && utf8.ValidString(v) {
		l.items = append(l.items, item{key, v})
	} else {
		l.cut = true
	}
	return true
}

// readPrefixed reads the headers whose names begin with prefix; the rest of a name in
// lower case is a key, and its first line the value. The names are ranged over, since
// there may be many; of more than 64 the first by key count.
func (l *legacyBaggage) readPrefixed(carrier otelprop.TextMapCarrier, prefix *headers.Name, plus bool) {
	h, ok := carrier.(otelprop.HeaderCarrier)
	if !ok {
		first := new(firstItems) // on the heap, because All may keep what it is given
		eachWithPrefix(carrier, prefix.Lower, first.add)
		l.addFirst(prefix, first, plus)
		return
	}
	var first firstItems
	for name, lines := range h {
		if len(name) > len(prefix.Canonical) && name[:len(prefix.Canonical)] == prefix.Canonical && len(lines) > 0 {
			first.add(name[len(prefix.Canonical):], lines[0])
		}
	}
	l.addFirst(prefix, &first, plus)
}

func (l *legacyBaggage) addFirst(prefix *headers.Name, first *firstItems, plus bool) {
	if first.more {
		l.header, l.cut = prefix.Lower, true
	}
	for _, it := range first.list {
		if !l.add(prefix.Lower, strings.ToLower(it.key), it.value, plus) {
			break
		}
	}
}

// readList reads a jaeger-baggage: key=value, key=value. What is no pair is skipped.
func (l *legacyBaggage) readList(v string) {
	if len(v) > maxBaggageBytes {
		l.header, l.cut = jaegerBaggageHeader.Lower, true
		return
	}
	seen := 0
	for at := 0; at < len(v); at++ {
		end, eq := at, -1
		for ; end < len(v) && v[end] != ','; end++ {
			if v[end] == '=' && eq < 0 {
				eq = end
			}
		}
		if eq >= 0 {
			if seen++; seen > maxBaggageMembers {
				l.header, l.cut = jaegerBaggageHeader.Lower, true
				return
			}
			kf, kt := trimOWS(v, at, eq)
			vf, vt := trimOWS(v, eq+1, end)
			if kf < kt && !l.add(jaegerBaggageHeader.Lower, v[kf:kt], v[vf:vt], true) {
				return
			}
		}
		at = end
	}
}

// readMap takes what an x-ot-span-context had, which is decoded already.
func (l *legacyBaggage) readMap(m map[string]string) {
	if l.header == "" {
		l.header = otSpanContextHeader.Lower
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		l.items = append(l.items, item{k, m[k]})
	}
}

// eachWithPrefix calls f with the rest of each name that begins with prefix and its
// first line. A MapCarrier is ranged over, and any carrier that offers All; of another
// one Keys, which costs a slice over all names, is asked.
func eachWithPrefix(carrier otelprop.TextMapCarrier, prefix string, f func(key, value string)) {
	switch c := carrier.(type) {
	case nil:
	case otelprop.MapCarrier:
		for name, line := range c {
			if key, ok := strings.CutPrefix(name, prefix); ok && key != "" {
				f(key, line)
			}
		}
	case interface {
		All() iter.Seq2[string, []string]
	}:
		for name, lines := range c.All() {
			if key, ok := strings.CutPrefix(name, prefix); ok && key != "" && len(lines) > 0 {
				f(key, lines[0])
			}
		}
	default:
		for _, name := range carrier.Keys() {
			if key, ok := strings.CutPrefix(name, prefix); ok && key != "" {
				f(key, carrier.Get(name))
			}
		}
	}
}
