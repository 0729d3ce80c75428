package propagation

import (
	"fmt"
	"strings"
)

// maxQuoted bounds what an error keeps of a header, in bytes. Every well-formed
// traceparent of version 00 and every well-formed b3 fits.
const maxQuoted = 128

// HeaderError says which header broke which rule, and where.
type HeaderError struct {
	Header string // its name in lower case
	Value  string // its line at fault; a copy of the first 128 bytes at most
	Offset int    // byte of that line at which the rule broke
	Rule   string // specification, term and requirement: "Trace Context, trace-id: 32 lower-case hex digits"
}

// Error names header, value, byte and rule in one line of printable ASCII, whatever
// the header held.
func (e *HeaderError) Error() string {
	return fmt.Sprintf("propagation: %s %+q at byte %d breaks %s", e.Header, e.Value, e.Offset, e.Rule)
}

// fault is a HeaderError before somebody wants to have it: it costs nothing and
// keeps the whole value. Its zero value is no fault.
type fault struct {
	header, value string
	offset        int
	rule          string
}

// err returns f as an error, nil when there is no fault.
func (f fault) err() error {
	if f.rule == "" {
		return nil
	}
	return &HeaderError{Header: f.header, Value: bounded(f.value), Offset: f.offset, Rule: f.rule}
}

// bounded returns a copy of the first maxQuoted bytes of s, so that an error does
// not keep a header of 1 MB alive.
func bounded(s string) string {
	return strings.Clone(s[:min(len(s), maxQuoted)])
}
