package promcheck_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/plugin/prombus"
)

const (
	dashboardFile = "../../dashboard.json"
	alertsFile    = "../../alerts.yml"
)

var promQL = parser.NewParser(parser.Options{})

// known has the labels of each series that a scrape of the collector can have; Prometheus adds job and instance.
func known(t *testing.T) map[string][]string {
	described := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	series := map[string][]string{}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		prombus.New(nil).Describe(descs)
	}()
	for desc := range descs {
		parts := described.FindStringSubmatch(desc.String())
		require.NotNil(t, parts, desc)
		labels := []string{"job", "instance"}
		if parts[2] != "" {
			labels = append(labels, strings.Split(parts[2], ",")...)
		}
		series[parts[1]] = labels
		if strings.HasSuffix(parts[1], "_seconds") && strings.Contains(parts[1], "duration") || parts[1] == "eventbus_event_age_seconds" {
			delete(series, parts[1])
			series[parts[1]+"_bucket"] = append(slices.Clone(labels), "le")
			series[parts[1]+"_count"], series[parts[1]+"_sum"] = labels, labels
		}
	}
	require.Greater(t, len(series), 30)
	return series
}

// check says what an expression names that does not exist, and notes in used what it names.
func check(series map[string][]string, used map[string]bool, expression string) error {
	expr, err := promQL.ParseExpr(expression)
	if err != nil {
		return err
	}
	var wrong []string
	has := map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		labels, exists := series[selector.Name]
		if !exists {
			wrong = append(wrong, "no series "+selector.Name)
		}
		used[selector.Name] = true
		for _, m := range selector.LabelMatchers {
			if m.Name != model.MetricNameLabel && !slices.Contains(labels, m.Name) {
				wrong = append(wrong, selector.Name+" has no label "+m.Name)
			}
		}
		for _, label := range labels {
			has[label] = true
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if aggregate, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range aggregate.Grouping {
				if !has[label] {
					wrong = append(wrong, "nothing has the label "+label)
				}
			}
		}
		return nil
	})
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %s", expression, strings.Join(wrong, "; "))
	}
	return nil
}

func alerts(t *testing.T) []rulefmt.Rule {
	text, err := os.ReadFile(alertsFile)
	require.NoError(t, err)
	groups, problems := rulefmt.Parse(text, false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	require.Empty(t, problems)
	require.Len(t, groups.Groups, 1)
	return groups.Groups[0].Rules
}

func TestAlertsNameWhatExists(t *testing.T) {
	series, names := known(t), map[string]bool{}
	for _, rule := range alerts(t) {
		require.NoError(t, check(series, map[string]bool{}, rule.Expr), rule.Alert)
		require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		require.NotEmpty(t, rule.Annotations["runbook"], rule.Alert)
		require.False(t, names[rule.Alert], "%s twice", rule.Alert)
		names[rule.Alert] = true
	}
}

func TestTheDashboardNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	series, used := known(t), map[string]bool{}
	for _, panel := range dashboard.Panels {
		require.Equal(t, panel.Type != "row", len(panel.Targets) > 0, panel.Title)
		for _, target := range panel.Targets {
			require.NoError(t, check(series, used, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")), panel.Title)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Name == "datasource" {
			continue
		}
		parts := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		require.NotNil(t, parts, v.Definition)
		require.Contains(t, series[parts[1]], parts[2], v.Name)
	}
	// A histogram is shown by what is asked of it, and some are for an alert, or a look, only.
	for name := range series {
		if !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !slices.Contains([]string{
			"eventbus_connected", "eventbus_group_joined", "eventbus_topics_recreated_total", "eventbus_dead_letters_followed_total",
		}, name) {
			require.True(t, used[name], "no panel shows %s", name)
		}
	}
}

func TestACheckFindsWhatDoesNotExist(t *testing.T) {
	series := known(t)
	for expression, wrong := range map[string]string{
		`eventbus_lagg_seconds`:                       "no series eventbus_lagg_seconds",
		`eventbus_lag_seconds{key="a"}`:               "no label key",
		`sum by (key) (eventbus_lag_seconds)`:         "the label key",
		`rate(eventbus_publish_duration_seconds[5m])`: "no series",
		`sum(`: "parse error",
	} {
		require.ErrorContains(t, check(series, map[string]bool{}, expression), wrong)
	}
}

// sick has series, as Prometheus' tests write them (value+step x times), by which the alert has to fire.
var sick = map[string]string{
	"EventbusNotReady":    `eventbus_ready{job="a"} 0x80`,
	"EventbusNotLive":     `eventbus_live{job="a"} 0x80`,
	"EventbusLagInTime":   `eventbus_lag_seconds{job="a",group="g",topic="t"} 301x80`,
	"EventbusLagGrows":    `eventbus_lag_records{job="a",group="g",topic="t"} 0+100x80`,
	"EventbusDeadLetters": `eventbus_outcomes_total{job="a",group="g",topic="t",outcome="schema"} _x55 1x5`,
	"EventbusKeysBlocked": `eventbus_blocked_keys{job="a",group="g",topic="t"} 1x80
	                        eventbus_oldest_in_flight_seconds{job="a",group="g",topic="t"} 0+60x80`,
	"EventbusKeysParked":         `eventbus_parked_keys{job="a",group="g",topic="t"} 1x80`,
	"EventbusPausedByDownstream": `eventbus_group_paused{job="a",group="g"} 1x80`,
	"EventbusOldestInFlight":     `eventbus_oldest_in_flight_seconds{job="a",group="g",topic="t"} 0+60x80`,
	"EventbusPublishErrors": `eventbus_publish_errors_total{job="a"} 0+2x80
	                        eventbus_messages_published_total{job="a"} 0+100x80`,
	"EventbusPublishSlow": `eventbus_publish_duration_seconds_bucket{job="a",topic="t",outcome="ok",le="1"} 0+90x80
	                        eventbus_publish_duration_seconds_bucket{job="a",topic="t",outcome="ok",le="2.5"} 0+100x80
	                        eventbus_publish_duration_seconds_bucket{job="a",topic="t",outcome="ok",le="+Inf"} 0+100x80`,
	"EventbusRebalances":         `eventbus_rebalances_total{job="a"} 0+1x80`,
	"EventbusCommitsFail":        `eventbus_commit_errors_total{job="a"} 0+60x80` + "\n" + `eventbus_commits_total{job="a"} 0+1x80`,
	"EventbusHandlersLeftBehind": `eventbus_handlers_left_behind_total{job="a"} 0x50 1x10`,
}

// healthy is a bus at work, by which none may.
const healthy = `
	eventbus_ready{job="a"} 1x80
	eventbus_live{job="a"} 1x80
	eventbus_lag_seconds{job="a",group="g",topic="t"} 1x80
	eventbus_lag_records{job="a",group="g",topic="t"} 500x80
	eventbus_outcomes_total{job="a",group="g",topic="t",outcome="handled"} 0+6000x80
	eventbus_outcomes_total{job="a",group="g",topic="t",outcome="schema"} 7x80
	eventbus_blocked_keys{job="a",group="g",topic="t"} 3x80
	eventbus_parked_keys{job="a",group="g",topic="t"} 0x80
	eventbus_group_paused{job="a",group="g"} 0x80
	eventbus_oldest_in_flight_seconds{job="a",group="g",topic="t"} 2x80
	eventbus_publish_errors_total{job="a"} 0+1x80
	eventbus_messages_published_total{job="a"} 0+1000x80
	eventbus_publish_duration_seconds_bucket{job="a",topic="t",outcome="ok",le="1"} 0+6000x80
	eventbus_publish_duration_seconds_bucket{job="a",topic="t",outcome="ok",le="+Inf"} 0+6000x80
	eventbus_rebalances_total{job="a",instance="1"} 1x20 1+4x3 13x60
	eventbus_rebalances_total{job="a",instance="2"} 1x20 1+4x3 13x60
	eventbus_rebalances_total{job="a",instance="3"} 1x20 1+4x3 13x60
	eventbus_commit_errors_total{job="a"} 1x80
	eventbus_commits_total{job="a"} 0+60x80
	eventbus_handlers_left_behind_total{job="a"} 0x80
`

func TestAlertsFire(t *testing.T) {
	rules := alerts(t)
	require.Len(t, sick, len(rules))
	for _, rule := range rules {
		require.Contains(t, sick, rule.Alert)
		require.Empty(t, firing(t, healthy, rule), "%s: of a bus at work", rule.Alert)
		require.NotEmpty(t, firing(t, sick[rule.Alert], rule), rule.Alert)
	}
	require.Empty(t, slices.DeleteFunc(slices.Collect(maps.Keys(sick)), func(name string) bool {
		return slices.ContainsFunc(rules, func(r rulefmt.Rule) bool { return r.Alert == name })
	}))
}

// firing evaluates a rule each minute of the hour after the first 15 minutes of series, which it looks back at, and returns when it fires: when it has been true for as long as it says.
func firing(t *testing.T, series string, rule rulefmt.Rule) (at []time.Time) {
	storage := promqltest.LoadedStorage(t, "load 1m\n "+strings.ReplaceAll(strings.TrimSpace(series), "\n", "\n "))
	defer func() { require.NoError(t, storage.Close()) }()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	var since time.Time
	for minute := range 61 {
		now := time.Unix(int64(15+minute)*60, 0).UTC()
		query, err := engine.NewInstantQuery(t.Context(), storage, promql.NewPrometheusQueryOpts(false, 0, nil), rule.Expr, now)
		require.NoError(t, err)
		result := query.Exec(t.Context())
		require.NoError(t, result.Err)
		vector, err := result.Vector()
		require.NoError(t, err)
		switch {
		case len(vector) == 0:
			since = time.Time{}
		case since.IsZero():
			since = now
		}
		if !since.IsZero() && now.Sub(since) >= time.Duration(rule.For) {
			at = append(at, now)
		}
		query.Close()
	}
	return at
}
