package propagation

import (
	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/headers"
)

// sink writes headers to any carrier.
type sink struct {
	header  otelprop.HeaderCarrier
	carrier otelprop.TextMapCarrier
	slots   []string // what is left of an array that values of header share
}

// newSink returns a sink over carrier, false when nothing can be written to it.
func newSink(carrier otelprop.TextMapCarrier) (sink, bool) {
	switch c := carrier.(type) {
	case otelprop.HeaderCarrier:
		return sink{header: c}, c != nil
	case otelprop.MapCarrier:
		return sink{carrier: c}, c != nil
	}
	return sink{carrier: carrier}, carrier != nil
}

// set replaces all lines of h with v.
func (k *sink) set(h *headers.Name, v string) {
	if k.header == nil {
		k.carrier.Set(h.Lower, v)
		return
	}
	if len(k.slots) == 0 {
		k.slots = make([]string, 2) // a trace header and a request id
	}
	k.slots[0] = v
	k.header[h.Canonical] = k.slots[:1:1]
	k.slots = k.slots[1:]
}

// get returns the first line of h, "" when there is none.
func (k *sink) get(h *headers.Name) string {
	if k.header == nil {
		return k.carrier.Get(h.Lower)
	}
	if lines := k.header[h.Canonical]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// remove removes h from the two carriers of OpenTelemetry; the interface has no
// word for it.
func (k *sink) remove(h *headers.Name) {
	if k.header != nil {
		if k.header[h.Canonical] != nil { // a look costs half of what delete costs
			delete(k.header, h.Canonical)
		}
	} else if m, ok := k.carrier.(otelprop.MapCarrier); ok {
		delete(m, h.Lower)
	}
}
