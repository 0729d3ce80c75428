package envoymodel

import (
	"slices"
	"strings"
)

// Header holds the lines of each header by its lower-case name. A header is
// present when it has a line, be it empty.
type Header map[string][]string

// Lines returns the lines of a header in order; nil means that it is absent.
func (h Header) Lines(name string) []string { return h[name] }

func (h Header) has(name string) bool { return len(h[name]) > 0 }

// get returns the first line of a header, "" also when it is absent.
func (h Header) get(name string) string {
	if !h.has(name) {
		return ""
	}
	return h[name][0]
}

func (h Header) set(name, value string) { h[name] = []string{value} }

func (h Header) remove(name string) { delete(h, name) }

// readHeader makes a Header of lines as they came: names in lower case, values
// without spaces and tabs around them (O-5), and headers with a fixed slot
// joined into one line (O-4).
func readHeader(lines []Line, fixed []string) Header {
	h := make(Header)
	for _, line := range lines {
		name := strings.ToLower(line.Name)
		h[name] = append(h[name], strings.Trim(line.Value, " \t"))
	}
	for _, name := range fixed {
		if h.has(name) {
			h.set(name, join(h[name]))
		}
	}
	return h
}

// join makes one value of several lines: O-4, without the empty ones. Lines
// that are all empty are one empty value.
func join(lines []string) string {
	var filled []string
	for _, line := range lines {
		if line != "" {
			filled = append(filled, line)
		}
	}
	return strings.Join(filled, ",")
}

// removeHopByHop removes the Connection header and the headers it names (O-5).
func removeHopByHop(h Header) {
	for _, line := range h.Lines("connection") {
		for named := range strings.SplitSeq(line, ",") {
			h.remove(strings.ToLower(strings.Trim(named, " \t")))
		}
	}
	h.remove("connection")
}

// hasControlCharacter reports whether a value must be refused (O-5). The tab is
// white space, no control character.
func hasControlCharacter(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// envoyHeader returns the full name of an x-envoy-* header (ED-14).
func (l Listener) envoyHeader(suffix string) string {
	prefix := "x-envoy"
	if l.HeaderPrefix != "" {
		prefix = strings.ToLower(l.HeaderPrefix)
	}
	return prefix + "-" + suffix
}

// fixedSlots returns the names whose lines Envoy joins (O-4). Under another
// prefix the x-envoy-* names are ordinary ones (ED-14).
func (l Listener) fixedSlots() []string {
	names := []string{"x-request-id", "x-client-trace-id", "x-forwarded-for", "user-agent", "grpc-timeout"}
	for _, suffix := range slices.Concat(removedAtEdge, removedFromOutside, otherFixedSlots) {
		names = append(names, l.envoyHeader(suffix))
	}
	return names
}

// otherFixedSlots are the x-envoy-* headers with a fixed slot that sanitising
// leaves alone. That attempt-count is one is known from a recorded answer.
var otherFixedSlots = []string{"internal", "external-address", "attempt-count"}
