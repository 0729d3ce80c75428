package tracetree

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Columns of a printed line, in characters. The name takes what the others leave.
const (
	lineWidth     = 100
	serviceWidth  = 30 // indentation included
	kindWidth     = 8
	durationWidth = 8
	statusWidth   = 28
	gap           = 2
	maxIndent     = 8 // levels drawn; below, a number says how deep
)

// Print writes the trace as text, one line a span: service (indented as in the
// tree), kind, name, duration, and the status where one is set. Above stand the
// trace id with the counts, and above each root its request id and sampling
// reason. Lines have at most 100 characters; what is longer is cut with "…".
// Characters that are not printable, line breaks, escape sequences and
// direction marks among them, are written as Go escapes them. The error is w's.
func (t *Trace) Print(w io.Writer) error {
	var service, name, status int
	for n, prefix := range t.drawn() {
		service = max(service, width(prefix)+width(escape(n.Service(), serviceWidth)))
		name = max(name, width(escape(n.Name, lineWidth)))
		status = max(status, width(n.outcome()))
	}
	service = min(service, serviceWidth)
	status = min(status, statusWidth)
	name = min(name, lineWidth-service-kindWidth-durationWidth-status-4*gap)

	out := bufio.NewWriter(w)
	fmt.Fprintln(out, t.heading())
	shown := ""
	for n, prefix := range t.drawn() {
		if n.Depth == 1 {
			if id := n.FirstRequestID(); id != "" && id != shown {
				fmt.Fprintln(out, requestLine(id))
				shown = id
			}
		}
		line := pad(prefix+escape(n.Service(), service-width(prefix)), service+gap) +
			pad(n.KindName(), kindWidth+gap) +
			pad(escape(n.Name, name), name+gap) +
			fmt.Sprintf("%*s", durationWidth, formatDuration(n.Duration()))
		room := lineWidth - width(line) - gap
		if s := n.outcome(); s != "" && room > 0 {
			line += strings.Repeat(" ", gap) + escape(s, room)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	return out.Flush()
}

// heading is the first line: the id and what there is.
func (t *Trace) heading() string {
	parts := []string{
		"trace " + t.ID.String(),
		formatDuration(t.Duration()),
		count(t.Spans, "span"),
		count(len(t.Services), "service"),
		"depth " + strconv.Itoa(t.Depth),
	}
	if t.Errors > 0 {
		parts = append(parts, count(t.Errors, "error"))
	}
	if t.Orphans > 0 {
		parts = append(parts, count(t.Orphans, "orphan"))
	}
	if t.Repeated > 0 {
		parts = append(parts, strconv.Itoa(t.Repeated)+" repeated")
	}
	return escape(strings.Join(parts, " · "), lineWidth)
}

// requestLine shows an id with its reason.
func requestLine(id string) string {
	digit, words := Reason(id)
	if digit != "" {
		words = digit + " " + words
	}
	return "request id " + escape(id, lineWidth-width(words)-len("request id  · ")) + " · " + words
}

// drawn yields every span with the lines of the tree in front of it.
func (t *Trace) drawn() func(yield func(*Node, string) bool) {
	return func(yield func(*Node, string) bool) {
		var last []bool // by level: no sibling follows
		for n := range t.Walk() {
			level := n.Depth - 1
			last = append(last[:min(level, len(last))],
				n.parent == nil || n.parent.Children[len(n.parent.Children)-1] == n)
			if !yield(n, prefix(last)) {
				return
			}
		}
	}
}

// prefix draws the way from the root (level 0, without a line) to the last level.
func prefix(last []bool) string {
	level := len(last) - 1
	if level == 0 {
		return ""
	}
	var b strings.Builder
	if level > maxIndent {
		fmt.Fprintf(&b, "…%d ", level+1)
	} else {
		for _, l := range last[1:level] {
			if l {
				b.WriteString("   ")
			} else {
				b.WriteString("│  ")
			}
		}
	}
	if last[level] {
		b.WriteString("└─ ")
	} else {
		b.WriteString("├─ ")
	}
	return b.String()
}

// outcome is the last column: status, and what is odd about the span's place.
func (n *Node) outcome() string {
	var s string
	switch n.StatusCode {
	case statusOK:
		s = "ok"
	case statusError:
		s = "error"
		if text := n.StatusText; text != "" {
			s += ": " + escape(text, lineWidth)
		} else if v, ok := n.Attr(semconv.ErrorType); ok && v.Type() == attribute.STRING {
			s += ": " + escape(v.AsString(), lineWidth)
		}
	}
	if n.Orphan {
		s = strings.TrimSpace("orphan " + s)
	}
	return s
}

// count is "1 span", "2 spans".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// formatDuration shows three or four digits and the unit, in at most 8 characters
// below 1000 hours.
func formatDuration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return strconv.FormatInt(int64(d), 10) + "ns"
	case d < time.Millisecond:
		return strconv.FormatFloat(float64(d)/1e3, 'f', 1, 64) + "µs"
	case d < time.Second:
		return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) + "ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + "s"
	case d < 100*time.Minute:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m" + strconv.FormatInt(int64(d/time.Second)%60, 10) + "s"
	}
	return strconv.FormatInt(int64(d/time.Hour), 10) + "h" + strconv.FormatInt(int64(d/time.Minute)%60, 10) + "m"
}

// escape makes s printable and at most limit characters wide, cut with "…". It
// reads no more of s than it needs.
func escape(s string, limit int) string {
	var b strings.Builder
	used := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case !strconv.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		used += utf8.RuneCountInString(piece)
		if rest := i+size < len(s); used > limit || used == limit && rest {
			return ellipsis(b.String(), limit)
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

// ellipsis ends s with "…" in at most limit characters.
func ellipsis(s string, limit int) string {
	if limit <= 0 {
		return ""
	}
	r := []rune(s)
	return string(r[:min(len(r), limit-1)]) + "…"
}

// pad fills s with spaces to n characters.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-width(s)))
}

// width is the number of characters in s.
func width(s string) int { return utf8.RuneCountInString(s) }
