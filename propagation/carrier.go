package propagation

import otelprop "go.opentelemetry.io/otel/propagation"

// source reads header lines from any carrier. An http.Header is indexed by its
// canonical keys, which costs neither a call through an interface nor an allocation.
type source struct {
	header  otelprop.HeaderCarrier
	values  otelprop.ValuesGetter
	carrier otelprop.TextMapCarrier
	one     [1]string
}

func newSource(carrier otelprop.TextMapCarrier) source {
	switch c := carrier.(type) {
	case nil:
		return source{}
	case otelprop.HeaderCarrier:
		return source{header: c}
	case otelprop.ValuesGetter:
		return source{values: c}
	}
	return source{carrier: carrier}
}

// lines returns all lines of h, in order. Carriers without ValuesGetter have one at
// most, and cannot tell an empty one from none.
func (s *source) lines(h *header) []string {
	switch {
	case s.header != nil:
		return s.header[h.canonical]
	case s.values != nil:
		return s.values.Values(h.lower)
	case s.carrier != nil:
		if s.one[0] = s.carrier.Get(h.lower); s.one[0] != "" {
			return s.one[:]
		}
	}
	return nil
}

// first returns the first line of h, "" when there is none.
func (s *source) first(h *header) string {
	if lines := s.lines(h); len(lines) > 0 {
		return lines[0]
	}
	return ""
}

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
func (k *sink) set(h *header, v string) {
	if k.header == nil {
		k.carrier.Set(h.lower, v)
		return
	}
	if len(k.slots) == 0 {
		k.slots = make([]string, 2) // a trace header and a request id
	}
	k.slots[0] = v
	k.header[h.canonical] = k.slots[:1:1]
	k.slots = k.slots[1:]
}

// get returns the first line of h, "" when there is none.
func (k *sink) get(h *header) string {
	if k.header == nil {
		return k.carrier.Get(h.lower)
	}
	if lines := k.header[h.canonical]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// remove removes h from the two carriers of OpenTelemetry; the interface has no
// word for it.
func (k *sink) remove(h *header) {
	if k.header != nil {
		if k.header[h.canonical] != nil { // a look costs half of what delete costs
			delete(k.header, h.canonical)
		}
	} else if m, ok := k.carrier.(otelprop.MapCarrier); ok {
		delete(m, h.lower)
	}
}
