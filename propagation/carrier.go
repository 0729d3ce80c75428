package propagation

import (
	"slices"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/headers"
)

// sink writes headers to any carrier.
type sink struct {
	header  otelprop.HeaderCarrier
	carrier otelprop.TextMapCarrier
	slots   []string // what is left of an array that values of header share
	values  int      // how many values that array is to have when it is made, so 1 at least
	fresh   bool     // the carrier was empty: nothing has to be looked for
}

// reset makes k, which is empty, a sink over carrier; false when nothing can be written
// to it.
func (k *sink) reset(carrier otelprop.TextMapCarrier) bool {
	if h, ok := carrier.(otelprop.HeaderCarrier); ok {
		k.header, k.fresh = h, len(h) == 0
		return h != nil
	}
	k.carrier = carrier
	if m, ok := carrier.(otelprop.MapCarrier); ok {
		k.fresh = len(m) == 0
		return m != nil
	}
	return carrier != nil
}

// set replaces all lines of h with v.
func (k *sink) set(h *headers.Name, v string) {
	if k.header == nil {
		k.carrier.Set(h.Lower, v)
		return
	}
	if len(k.slots) == 0 {
		k.slots = make([]string, k.values)
		k.values = 1 // beyond what was foreseen
	}
	k.slots[0] = v
	k.header[h.Canonical] = k.slots[:1:1]
	k.slots = k.slots[1:]
}

// expect says that one value more than foreseen will be set.
func (k *sink) expect() {
	if len(k.slots) == 0 {
		k.values++
	}
}

// setLines replaces all lines of h with lines, which it copies. Carriers that have one
// line for a name get them joined with commas (RFC 9110, 5.3).
func (k *sink) setLines(h *headers.Name, lines []string) {
	switch {
	case len(lines) == 1:
		k.set(h, lines[0])
	case k.header != nil:
		k.header[h.Canonical] = slices.Clone(lines)
	default:
		k.carrier.Set(h.Lower, strings.Join(lines, ","))
	}
}

// setPrefixed writes one header for each item, the key behind the prefix. escapeFor
// makes values of the items.
func (k *sink) setPrefixed(prefix *headers.Name, items []item, plus bool) {
	for _, it := range items {
		name := prefix.Lower + strings.ToLower(it.key)
		if v := escapeFor(it.value, plus); k.header != nil {
			k.header.Set(name, v)
		} else {
			k.carrier.Set(name, v)
		}
	}
}

// has reports whether there was a line of h that is not empty.
func (k *sink) has(h *headers.Name) bool { return k.get(h) != "" }

// get returns the first line of h, "" when there is none. It is not for headers that
// were set here.
func (k *sink) get(h *headers.Name) string {
	if k.fresh {
		return ""
	}
	if k.header == nil {
		return k.carrier.Get(h.Lower)
	}
	if lines := k.header[h.Canonical]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// remove removes h from the two carriers of OpenTelemetry, for which the interface has
// no word, and reports whether it was there.
func (k *sink) remove(h *headers.Name) bool {
	if k.fresh {
		return false
	}
	if k.header != nil {
		_, there := k.header[h.Canonical]
		if there { // a look costs half of what delete costs
			delete(k.header, h.Canonical)
		}
		return there
	}
	if m, ok := k.carrier.(otelprop.MapCarrier); ok {
		_, there := m[h.Lower]
		delete(m, h.Lower)
		return there
	}
	return false
}

// staleHeader is a header to remove, without which those that follow it mean nothing.
type staleHeader struct {
	headers.Name
	leads int // how many
}

// removeStale removes list.
func (k *sink) removeStale(list []staleHeader) {
	if k.fresh {
		return
	}
	for i := 0; i < len(list); i++ {
		if !k.remove(&list[i].Name) {
			i += list[i].leads
		}
	}
}
