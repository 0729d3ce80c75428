package w3ctest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The caller of the tables.
const (
	callerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callerSpan  = "00f067aa0ba902b7"

	// caller is its traceparent, with flags that the runner puts in.
	caller = "traceparent: 00-" + callerTrace + "-" + callerSpan + "-{flags}"
)

// contextRow restates a test of the harness, or a clause that it does not reach.
type contextRow struct {
	test   string // of the harness, its class left out; "" is a row without one
	title  string // of a row without a test
	clause string // of W3C Trace Context Level 2
	steps  []contextStep
}

// contextStep is one request and what the calls made for it must carry. Beside that,
// [contextStep.faults] holds for every call.
type contextStep struct {
	in        []string // header lines as they are sent
	calls     int      // that are asked for; 0 is 1
	continues bool     // the calls are in callerTrace; else in one trace nobody named
	state     []string // each tracestate that is right, without white space and empty members; nil: none goes out
	flags     string   // of the traceparent that goes out; "" is not looked at; {flags} are those that came
}

func (r *contextRow) name() string {
	if r.test != "" {
		return r.test
	}
	return r.title
}

// traceparent makes a header line of version, trace id, parent id and flags.
func traceparent(parts ...string) string { return "traceparent: " + strings.Join(parts, "-") }

// refused are steps with a traceparent each that starts a new trace, and takes a
// tracestate beside it away too.
func refused(traceparents ...string) []contextStep {
	var steps []contextStep
	for _, line := range traceparents {
		steps = append(steps,
			contextStep{in: []string{line}},
			contextStep{in: []string{line, "tracestate: foo=1"}})
	}
	return steps
}

// accepted are steps with a traceparent line each that continues the trace.
func accepted(traceparents ...string) []contextStep {
	var steps []contextStep
	for _, line := range traceparents {
		steps = append(steps, contextStep{in: []string{line}, continues: true})
	}
	return steps
}

// carried is a step with tracestate lines beside a good traceparent, of which one of
// want goes on.
func carried(tracestates []string, want ...string) contextStep {
	return contextStep{in: append([]string{caller}, tracestates...), continues: true, state: want}
}

// dropped are steps with a tracestate line each that goes on in no part. The trace is
// continued all the same.
func dropped(tracestates ...string) []contextStep {
	var steps []contextStep
	for _, line := range tracestates {
		steps = append(steps, carried([]string{line}))
	}
	return steps
}

// numbered returns list-members k01=01 to that of last, joined by commas.
func numbered(first, last int) string {
	var members []string
	for i := first; i <= last; i++ {
		members = append(members, fmt.Sprintf("k%02d=%02[1]d", i))
	}
	return strings.Join(members, ",")
}

const (
	keyBytes   = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
	valueBytes = " !\"#$%&'()*+-./0123456789:;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"
)

// contextRows are the tests of the harness in its order, then the further clauses.
func contextRows() []contextRow {
	long := func(c string, n int) string { return strings.Repeat(c, n) }
	return []contextRow{
		{test: "test_both_traceparent_and_tracestate_missing", clause: "Mutating the traceparent Field",
			steps: []contextStep{{}}},
		{test: "test_traceparent_included_tracestate_missing", clause: "Mutating the traceparent Field: update parent-id",
			steps: accepted(caller)},
		{test: "test_traceparent_duplicated", clause: "Traceparent Header: not a list (RFC 9110, 5.3)",
			steps: []contextStep{
				{in: []string{traceparent("00", "4bf92f3577b34da6a3ce929d0e0e4737", callerSpan, "{flags}"), caller}},
				{in: []string{caller, traceparent("00", "4bf92f3577b34da6a3ce929d0e0e4737", callerSpan, "{flags}")}},
			}},
		{test: "test_traceparent_header_name", clause: "Traceparent Header: Header Name",
			steps: []contextStep{
				{in: []string{"trace-parent" + strings.TrimPrefix(caller, "traceparent")}},
				{in: []string{"trace.parent" + strings.TrimPrefix(caller, "traceparent")}},
			}},
		{test: "test_traceparent_header_name_valid_casing", clause: "Traceparent Header: Header Name",
			steps: accepted(
				"TraceParent"+strings.TrimPrefix(caller, "traceparent"),
				"tRaCePaReNt"+strings.TrimPrefix(caller, "traceparent"),
				"TRACEPARENT"+strings.TrimPrefix(caller, "traceparent"))},
		{test: "test_traceparent_version_0x00", clause: "version-format: nothing follows trace-flags in version 00",
			steps: refused(caller+".", caller+"-", caller+"-more-to-come")},
		{test: "test_traceparent_version_0xcc", clause: "Versioning of traceparent",
			steps: slices.Concat(
				accepted(traceparent("cc", callerTrace, callerSpan, "{flags}"),
					traceparent("cc", callerTrace, callerSpan, "{flags}", "more", "to", "come")),
				refused(traceparent("cc", callerTrace, callerSpan, "{flags}.more")))},
		{test: "test_traceparent_version_0xff", clause: "version: ff is invalid",
			steps: refused(traceparent("ff", callerTrace, callerSpan, "{flags}"))},
		{test: "test_traceparent_version_illegal_characters", clause: "version: 2HEXDIGLC",
			steps: refused(
				traceparent(".0", callerTrace, callerSpan, "{flags}"),
				traceparent("0.", callerTrace, callerSpan, "{flags}"))},
		{test: "test_traceparent_version_too_long", clause: "version: 2HEXDIGLC",
			steps: refused(
				traceparent("000", callerTrace, callerSpan, "{flags}"),
				traceparent("0000", callerTrace, callerSpan, "{flags}"))},
		{test: "test_traceparent_version_too_short", clause: "version: 2HEXDIGLC",
			steps: refused(traceparent("0", callerTrace, callerSpan, "{flags}"))},
		{test: "test_traceparent_trace_id_all_zero", clause: "trace-id: all zeroes forbidden",
			steps: refused(traceparent("00", long("0", 32), callerSpan, "{flags}"))},
		{test: "test_traceparent_trace_id_illegal_characters", clause: "trace-id: 32HEXDIGLC",
			steps: refused(
				traceparent("00", "."+callerTrace[1:], callerSpan, "{flags}"),
				traceparent("00", callerTrace[:31]+".", callerSpan, "{flags}"))},
		{test: "test_traceparent_trace_id_too_long", clause: "trace-id: 32HEXDIGLC",
			steps: refused(traceparent("00", callerTrace+"a", callerSpan, "{flags}"))},
		{test: "test_traceparent_trace_id_too_short", clause: "trace-id: 32HEXDIGLC",
			steps: refused(traceparent("00", callerTrace[:31], callerSpan, "{flags}"))},
		{test: "test_traceparent_parent_id_all_zero", clause: "parent-id: all zeroes forbidden",
			steps: refused(traceparent("00", callerTrace, long("0", 16), "{flags}"))},
		{test: "test_traceparent_parent_id_illegal_characters", clause: "parent-id: 16HEXDIGLC",
			steps: refused(
				traceparent("00", callerTrace, "."+callerSpan[1:], "{flags}"),
				traceparent("00", callerTrace, callerSpan[:15]+".", "{flags}"))},
		{test: "test_traceparent_parent_id_too_long", clause: "parent-id: 16HEXDIGLC",
			steps: refused(traceparent("00", callerTrace, callerSpan+"a", "{flags}"))},
		{test: "test_traceparent_parent_id_too_short", clause: "parent-id: 16HEXDIGLC",
			steps: refused(traceparent("00", callerTrace, callerSpan[:15], "{flags}"))},
		{test: "test_traceparent_trace_flags_illegal_characters", clause: "trace-flags: 2HEXDIGLC",
			steps: refused(
				traceparent("00", callerTrace, callerSpan, ".0"),
				traceparent("00", callerTrace, callerSpan, "0."))},
		{test: "test_traceparent_trace_flags_too_long", clause: "trace-flags: 2HEXDIGLC",
			steps: refused(traceparent("00", callerTrace, callerSpan, "{flags}1"))},
		{test: "test_traceparent_trace_flags_too_short", clause: "trace-flags: 2HEXDIGLC",
			steps: refused(traceparent("00", callerTrace, callerSpan, "1"))},
		{test: "test_traceparent_ows_handling", clause: "Traceparent Header: OWS around a field value (RFC 9110, 5.5)",
			steps: accepted(
				strings.Replace(caller, " ", "  ", 1),
				strings.Replace(caller, " ", "\t", 1),
				strings.Replace(caller, " ", "", 1),
				caller+" ",
				caller+"\t",
				strings.Replace(caller, " ", "\t ", 1)+" \t")},

		{test: "test_tracestate_included_traceparent_missing", clause: "Tracestate Header: not parsed where traceparent is not",
			steps: []contextStep{
				{in: []string{"tracestate: foo=1"}},
				{in: []string{"tracestate: foo=1,bar=2"}},
			}},
		{test: "test_tracestate_included_traceparent_included", clause: "Mutating the tracestate Field",
			steps: []contextStep{carried([]string{"tracestate: foo=1,bar=2"}, "foo=1,bar=2")}},
		{test: "test_tracestate_header_name", clause: "Tracestate Header: Header Name",
			steps: dropped("trace-state: foo=1", "trace.state: foo=1")},
		{test: "test_tracestate_header_name_valid_casing", clause: "Tracestate Header: Header Name",
			steps: []contextStep{
				carried([]string{"TraceState: foo=1"}, "foo=1"),
				carried([]string{"tRaCeStAtE: foo=1"}, "foo=1"),
				carried([]string{"TRACESTATE: foo=1"}, "foo=1"),
			}},
		{test: "test_tracestate_empty_header", clause: "tracestate Header Field Values: empty headers are accepted",
			steps: []contextStep{
				carried([]string{"tracestate:"}),
				carried([]string{"tracestate: foo=1", "tracestate:"}, "foo=1"),
				carried([]string{"tracestate:", "tracestate: foo=1"}, "foo=1"),
			}},
		{test: "test_tracestate_multiple_headers_different_keys", clause: "tracestate Header Field Values: several fields are one list",
			steps: []contextStep{
				carried([]string{"tracestate: foo=1,bar=2", "tracestate: rojo=3,congo=4", "tracestate: baz=5"},
					"foo=1,bar=2,rojo=3,congo=4,baz=5"),
			}},
		{test: "test_tracestate_duplicated_keys", clause: "Mutating the tracestate Field: duplicate keys may be discarded",
			steps: []contextStep{
				carried([]string{"tracestate: foo=1,foo=1"}, "foo=1", "foo=1,foo=1"),
				carried([]string{"tracestate: foo=1,foo=2"}, "foo=1", "foo=2", "foo=1,foo=2"),
				carried([]string{"tracestate: foo=1", "tracestate: foo=1"}, "foo=1", "foo=1,foo=1"),
				carried([]string{"tracestate: foo=1", "tracestate: foo=2"}, "foo=1", "foo=2", "foo=1,foo=2"),
			}},
		{test: "test_tracestate_all_allowed_characters", clause: "Key, Value",
			steps: []contextStep{
				carried([]string{"tracestate: " + keyBytes + "=" + valueBytes}, keyBytes+"="+valueBytes),
				carried([]string{"tracestate: " + keyBytes + "@a-z0-9_-*/=" + valueBytes}, keyBytes+"@a-z0-9_-*/="+valueBytes),
			}},
		{test: "test_tracestate_ows_handling", clause: "tracestate Header Field Values: spaces and tabs around list-members",
			steps: []contextStep{
				carried([]string{"tracestate: foo=1 \t , \t bar=2, \t baz=3"}, "foo=1,bar=2,baz=3"),
				carried([]string{"tracestate: foo=1\t \t,\t \tbar=2,\t \tbaz=3"}, "foo=1,bar=2,baz=3"),
				carried([]string{"tracestate:  foo=1"}, "foo=1"),
				carried([]string{"tracestate:\tfoo=1"}, "foo=1"),
				carried([]string{"tracestate: foo=1 "}, "foo=1"),
				carried([]string{"tracestate: foo=1\t"}, "foo=1"),
				carried([]string{"tracestate:\t foo=1 \t"}, "foo=1"),
			}},
		{test: "test_tracestate_key_illegal_characters", clause: "Key",
			steps: dropped("tracestate: foo =1", "tracestate: FOO=1", "tracestate: foo.bar=1")},
		{test: "test_tracestate_key_illegal_vendor_format", clause: `Key: "@" anywhere but in front`,
			steps: []contextStep{
				carried([]string{"tracestate: foo@=1,bar=2"}, "foo@=1,bar=2"),
				carried([]string{"tracestate: @foo=1,bar=2"}),
				carried([]string{"tracestate: foo@@bar=1,bar=2"}, "foo@@bar=1,bar=2"),
				carried([]string{"tracestate: foo@bar@baz=1,bar=2"}, "foo@bar@baz=1,bar=2"),
			}},
		{test: "test_tracestate_member_count_limit", clause: "tracestate Header Field Values: at most 32 list-members",
			steps: []contextStep{
				carried([]string{"tracestate: " + numbered(1, 10), "tracestate: " + numbered(11, 30), "tracestate: " + numbered(31, 32)},
					numbered(1, 32)),
				carried([]string{"tracestate: " + numbered(1, 10), "tracestate: " + numbered(11, 30), "tracestate: " + numbered(31, 33)}),
			}},
		{test: "test_tracestate_key_length_limit", clause: "Key: up to 256 characters",
			steps: []contextStep{
				carried([]string{"tracestate: foo=1", "tracestate: " + long("z", 256) + "=1"}, "foo=1,"+long("z", 256)+"=1"),
				carried([]string{"tracestate: foo=1", "tracestate: " + long("z", 257) + "=1"}),
				carried([]string{"tracestate: foo=1", "tracestate: " + long("t", 241) + "@" + long("v", 14) + "=1"}, "foo=1,"+long("t", 241)+"@"+long("v", 14)+"=1"),
				carried([]string{"tracestate: foo=1", "tracestate: " + long("t", 242) + "@v=1"}, "foo=1,"+long("t", 242)+"@v=1"),
				carried([]string{"tracestate: foo=1", "tracestate: t@" + long("v", 15) + "=1"}, "foo=1,t@"+long("v", 15)+"=1"),
			}},
		{test: "test_tracestate_value_illegal_characters", clause: "Value",
			steps: dropped("tracestate: foo=bar=baz", "tracestate: foo=,bar=3")},

		{test: "test_multiple_requests_with_valid_traceparent", clause: "Mutating the traceparent Field: update parent-id",
			steps: []contextStep{{in: []string{caller}, calls: 3, continues: true}}},
		{test: "test_multiple_requests_without_traceparent", clause: "Mutating the traceparent Field: update parent-id",
			steps: []contextStep{{calls: 3}}},
		{test: "test_multiple_requests_with_illegal_traceparent", clause: "trace-id: all zeroes forbidden",
			steps: []contextStep{{in: []string{traceparent("00", long("0", 32), callerSpan, "01")}, calls: 3}}},

		{test: "test_propagates_random_flag", clause: "Random Trace ID Flag",
			steps: []contextStep{{in: []string{traceparent("00", callerTrace, callerSpan, "02")}, continues: true, flags: "02"}}},

		{title: "random flag unset or beside sampled", clause: "Random Trace ID Flag, Sampled flag",
			steps: []contextStep{
				{in: []string{caller}, continues: true, flags: "{flags}"},
				{in: []string{traceparent("00", callerTrace, callerSpan, "03")}, continues: true, flags: "03"},
			}},
		{title: "random flag with tracestate", clause: "Random Trace ID Flag",
			steps: []contextStep{
				{in: []string{traceparent("00", callerTrace, callerSpan, "02"), "tracestate: foo=1"}, continues: true, flags: "02", state: []string{"foo=1"}},
				{in: []string{traceparent("00", callerTrace, callerSpan, "03"), "tracestate: foo=1"}, continues: true, flags: "03", state: []string{"foo=1"}},
			}},
		{title: "reserved flags are zeroed", clause: "Other Flags",
			steps: []contextStep{
				{in: []string{traceparent("00", callerTrace, callerSpan, "fc")}, continues: true, flags: "00"},
				{in: []string{traceparent("00", callerTrace, callerSpan, "ff")}, continues: true, flags: "03"},
			}},
		{title: "upper-case hex", clause: "traceparent Header Field Values: HEXDIGLC",
			steps: refused(
				traceparent("00", strings.ToUpper(callerTrace), callerSpan, "{flags}"),
				traceparent("00", callerTrace, strings.ToUpper(callerSpan), "{flags}"),
				traceparent("00", callerTrace, callerSpan, "0A"),
				traceparent("CC", callerTrace, callerSpan, "{flags}"))},
		{title: "shorter than 55 characters", clause: "Versioning of traceparent",
			steps: refused("traceparent:", "traceparent: 00", "traceparent: 00-"+callerTrace,
				traceparent("cc", callerTrace, callerSpan), traceparent("cc", callerTrace, callerSpan, "0"), "traceparent: cc")},
		{title: "delimiters of a higher version", clause: "Versioning of traceparent",
			steps: refused(
				"traceparent: cc_"+callerTrace+"-"+callerSpan+"-{flags}",
				"traceparent: cc-"+callerTrace+"_"+callerSpan+"-{flags}",
				"traceparent: cc-"+callerTrace+"-"+callerSpan+"_{flags}")},
		{title: "tracestate beside a higher version", clause: "Versioning of tracestate",
			steps: []contextStep{{in: []string{traceparent("cc", callerTrace, callerSpan, "{flags}", "more"), "tracestate: foo=1"}, continues: true, state: []string{"foo=1"}}}},
		{title: "duplicated under two spellings", clause: "Traceparent Header: Header Name",
			steps: []contextStep{{in: []string{caller, "TRACEPARENT" + strings.TrimPrefix(caller, "traceparent")}}}},
		{title: "empty list-members", clause: "tracestate Header Field Values: empty and whitespace-only list-members",
			steps: []contextStep{
				carried([]string{"tracestate: ,foo=1,, \t ,bar=2,"}, "foo=1,bar=2"),
				carried([]string{"tracestate: ,"}),
				carried([]string{"tracestate: , \t", "tracestate: foo=1", "tracestate: \t,"}, "foo=1"),
			}},
		{title: "key begins with a digit", clause: "Key",
			steps: []contextStep{
				carried([]string{"tracestate: 1foo=1,bar=2"}, "1foo=1,bar=2"),
				carried([]string{"tracestate: 1@foo=1,bar=2"}, "1@foo=1,bar=2"),
			}},
		{title: "keys of Level 2 among others", clause: "Key: Level 1 had other forms",
			steps: []contextStep{
				carried([]string{"tracestate: foo=1 ,\t1st@@= 2", "tracestate: ,bar=3,a@b@c=4,"}, "foo=1,1st@@= 2,bar=3,a@b@c=4"),
				{in: []string{caller, "tracestate: 1st=1,foo=2"}, calls: 3, continues: true, state: []string{"1st=1,foo=2"}},
				{in: []string{"tracestate: 1st=1"}},
				{in: []string{"traceparent: ff", "tracestate: 1st=1"}},
				carried([]string{"tracestate: 1st=1,1st=2,foo@=3,foo@=4"}, "1st=1,foo@=3", "1st=1,1st=2,foo@=3,foo@=4"),
				carried([]string{"tracestate: 1st=2=3,foo=1"}),
				carried([]string{"tracestate: 1st=,foo=2"}),
				carried([]string{"tracestate: 1st=a\tb,foo=2"}),
				carried([]string{"tracestate: 1st=\u00e9,foo=2"}),
				carried([]string{"tracestate: 1st=1," + numbered(1, 31)}, "1st=1,"+numbered(1, 31)),
				carried([]string{"tracestate: 1st=1", "tracestate: " + numbered(1, 32)}),
				carried([]string{"tracestate: 1" + long("z", 255) + "=1,foo=2"}, "1"+long("z", 255)+"=1,foo=2"),
				carried([]string{"tracestate: 1" + long("z", 256) + "=1,foo=2"}),
				carried([]string{"tracestate: 1st=" + long("v", 256)}, "1st="+long("v", 256)),
				carried([]string{"tracestate: 1st=" + long("v", 257)}),
			}},
		{title: "key begins with another character", clause: "Key",
			steps: dropped("tracestate: _foo=1", "tracestate: -foo=1", "tracestate: *foo=1", "tracestate: /foo=1", "tracestate: =1", "tracestate: foo")},
		{title: "value length", clause: "Value: up to 256 characters",
			steps: []contextStep{
				carried([]string{"tracestate: foo=" + long("v", 256) + ",bar=2"}, "foo="+long("v", 256)+",bar=2"),
				carried([]string{"tracestate: foo=" + long("v", 257) + ",bar=2"}),
			}},
		{title: "value bytes", clause: "Value: printable ASCII",
			steps: dropped("tracestate: foo=a\tb", "tracestate: foo=\u00e9", "tracestate: foo=\xff")},
		{title: "value begins with spaces", clause: "Value: leading spaces are part of it",
			steps: []contextStep{carried([]string{"tracestate: foo=  1 ,bar= 2"}, "foo=  1,bar= 2")}},
		{title: "512 characters", clause: "tracestate Limits",
			steps: []contextStep{
				carried([]string{"tracestate: foo=" + long("v", 248) + ",bar=" + long("w", 255)}, "foo="+long("v", 248)+",bar="+long("w", 255)),
			}},
		{title: "tracestate beside several calls", clause: "Mutating the tracestate Field: order is preserved",
			steps: []contextStep{{in: []string{caller, "tracestate: " + numbered(1, 32)}, calls: 3, continues: true, state: []string{numbered(1, 32)}}}},
	}
}

func TestTraceContext(t *testing.T) {
	h := newHarness(t, nil)
	for _, row := range contextRows() {
		t.Run(row.name(), func(t *testing.T) {
			for i, step := range row.steps {
				for _, step := range step.byFlags() {
					for _, fault := range step.faults(h.exchange(t, step.in, max(step.calls, 1))) {
						t.Errorf("step %d (%s): sent %q: %s", i+1, row.clause, step.in, fault)
					}
				}
			}
		})
	}
}

// TestTraceContextCovers holds the table to the number of tests that the harness runs
// with SPEC_LEVEL=2 STRICT_LEVEL=2.
func TestTraceContextCovers(t *testing.T) {
	const want = 41
	names := map[string]bool{}
	tests := 0
	for _, row := range contextRows() {
		if names[row.name()] {
			t.Errorf("two rows are named %q", row.name())
		}
		names[row.name()] = true
		if row.test != "" {
			tests++
		}
		if row.clause == "" || len(row.steps) == 0 || (row.test == "") == (row.title == "") {
			t.Errorf("row %q lacks its name, clause or steps", row.name())
		}
	}
	if tests != want {
		t.Errorf("the table restates %d tests of the harness, want %d", tests, want)
	}
}

// byFlags returns s for each value of {flags}, or s alone where it has none.
func (s contextStep) byFlags() []contextStep {
	if !strings.Contains(strings.Join(s.in, ""), "{flags}") {
		return []contextStep{s}
	}
	var steps []contextStep
	for _, flags := range []string{"00", "01"} {
		with := s
		with.in = nil
		for _, line := range s.in {
			with.in = append(with.in, strings.ReplaceAll(line, "{flags}", flags))
		}
		with.flags = strings.ReplaceAll(s.flags, "{flags}", flags)
		steps = append(steps, with)
	}
	return steps
}

var (
	traceparentForm = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-(0[0-3])$`)
	memberForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]$`)
)

// faults returns what is wrong with the calls made for s. Beside what s wants, each
// call has one traceparent of version 00 with known flags alone and a new parent id,
// the calls share one trace, and each list-member has the form of Level 2. Sampled
// calls have a parent id each; others share that of the operation they stand under.
func (s *contextStep) faults(calls [][]field) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	var (
		sent  = strings.Join(s.in, "\n")
		spans = map[string]bool{}
		trace string
	)
	for _, fields := range calls {
		lines := values(fields, "traceparent")
		if len(lines) != 1 {
			add("%d traceparent headers went out: %q", len(lines), lines)
			continue
		}
		parts := traceparentForm.FindStringSubmatch(lines[0])
		if parts == nil || parts[1] == strings.Repeat("0", 32) || parts[2] == strings.Repeat("0", 16) {
			add("traceparent %q went out", lines[0])
			continue
		}
		traceID, spanID, flags := parts[1], parts[2], parts[3]
		switch {
		case s.continues && traceID != callerTrace:
			add("trace id %s went out, want the caller's", traceID)
		case !s.continues && strings.Contains(sent, traceID):
			add("trace id %s went out, want a new one", traceID)
		case trace != "" && traceID != trace:
			add("trace ids %s and %s went out, want one", trace, traceID)
		}
		trace = traceID
		if sampled := flags == "01" || flags == "03"; spans[spanID] && sampled || strings.Contains(sent, spanID) {
			add("parent id %s went out, want a new one", spanID)
		}
		spans[spanID] = true
		if s.flags != "" && flags != s.flags {
			add("flags %s went out, want %s", flags, s.flags)
		}

		lines = values(fields, "tracestate")
		if len(lines) > 1 {
			add("%d tracestate headers went out: %q", len(lines), lines)
		}
		members := listMembers(lines)
		for _, m := range members {
			if !memberForm.MatchString(m) {
				add("list-member %q of tracestate went out", m)
			}
		}
		state := strings.Join(members, ",")
		if len(lines) > 0 && state == "" {
			add("an empty tracestate went out")
		}
		if !(state == "" && s.state == nil || slices.Contains(s.state, state)) {
			add("tracestate %q went out, want one of %q", state, s.state)
		}
	}
	return list
}

// listMembers returns what stands between the commas of lines, without white space
// around it and without those that are empty.
func listMembers(lines []string) []string {
	var members []string
	for m := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if m = strings.Trim(m, " \t"); m != "" {
			members = append(members, m)
		}
	}
	return members
}
