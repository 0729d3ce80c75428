package otelenv

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLen bounds a variable in bytes; a longer one is a problem and counts as unset.
const MaxLen = 64 << 10

// Problem is a variable that could not be understood and counts as unset.
type Problem struct {
	Name, Value, Allowed string
}

// Error names the variable, its value (quoted and cut) and what is allowed.
func (p Problem) Error() string {
	const most = 80
	v := p.Value
	if len(v) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(v[cut]) {
			cut--
		}
		v = v[:cut] + "…"
	}
	return fmt.Sprintf("%s=%q counts as unset: allowed is %s", p.Name, v, p.Allowed)
}

// Reader reads OTEL_* variables and keeps a list of those it could not
// understand. The zero value is not usable; it is not safe for concurrent use.
type Reader struct {
	get      func(string) string
	problems []Problem
}

// New returns a Reader over get; nil is os.Getenv.
func New(get func(string) string) *Reader {
	if get == nil {
		get = os.Getenv
	}
	return &Reader{get: get}
}

// Problems returns what could not be understood so far, in reading order.
func (r *Reader) Problems() []Problem { return r.problems }

// Reject records that the value of name is not understood. It is for callers
// that parse a String themselves. The value of a variable with headers is not
// kept: they carry credentials.
func (r *Reader) Reject(name, value, allowed string) {
	if strings.HasSuffix(name, "_HEADERS") {
		value = "…"
	}
	r.problems = append(r.problems, Problem{Name: name, Value: value, Allowed: allowed})
}

// String returns the variable without surrounding space; an empty one is unset.
func (r *Reader) String(name string) (string, bool) {
	v := r.get(name)
	if len(v) > MaxLen {
		r.Reject(name, v, fmt.Sprintf("at most %d bytes", MaxLen))
		return "", false
	}
	v = strings.TrimSpace(v)
	return v, v != ""
}

// First returns the first of names that is set, and its name.
func (r *Reader) First(names ...string) (value, name string, ok bool) {
	for _, n := range names {
		if v, set := r.String(n); set {
			return v, n, true
		}
	}
	return "", "", false
}

// Bool returns the variable as a boolean. As OpenTelemetry has it, only "true" in
// any case is true; anything but "true" and "false" is a problem.
func (r *Reader) Bool(name string) (value, ok bool) {
	v, set := r.String(name)
	switch {
	case !set:
		return false, false
	case strings.EqualFold(v, "true"):
		return true, true
	case strings.EqualFold(v, "false"):
		return false, true
	}
	r.Reject(name, v, "true or false")
	return false, false
}

// Int returns the variable as a decimal number from min to max.
func (r *Reader) Int(name string, min, max int64) (int64, bool) {
	v, set := r.String(name)
	if !set {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < min || n > max {
		r.Reject(name, v, fmt.Sprintf("a whole number from %d to %d", min, max))
		return 0, false
	}
	return n, true
}

// Millis returns the variable, a whole number of milliseconds from min to max.
func (r *Reader) Millis(name string, min, max time.Duration) (time.Duration, bool) {
	n, ok := r.Int(name, min.Milliseconds(), max.Milliseconds())
	return time.Duration(n) * time.Millisecond, ok
}

// Enum returns the variable as the one of allowed that it equals in any case.
func (r *Reader) Enum(name string, allowed ...string) (string, bool) {
	v, set := r.String(name)
	if !set {
		return "", false
	}
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a, true
		}
	}
	r.Reject(name, v, strings.Join(allowed, ", "))
	return "", false
}
