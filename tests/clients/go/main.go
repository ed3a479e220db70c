// The official Go client against a cluster: producer, simple consumer, push consumer, all kinds of message, over
// TLS, which is its default.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const (
	count    = 50
	deadline = 60 * time.Second
)

func body(number int) string {
	return fmt.Sprintf("nachricht %d 消息", number)
}

func check(message *rmq.MessageView) (int, error) {
	keys := message.GetKeys()
	if len(keys) != 1 {
		return 0, fmt.Errorf("keys %v", keys)
	}
	number, err := strconv.Atoi(strings.TrimPrefix(keys[0], "key"))
	if err != nil {
		return 0, err
	}
	tag := message.GetTag()
	property := message.GetProperties()["property"]
	if string(message.GetBody()) != body(number) || tag == nil || *tag != "tag" || property != fmt.Sprintf("wert %d", number) {
		return 0, fmt.Errorf("message %d came with body %q, tag %v, property %q", number, message.GetBody(), tag, property)
	}
	return number, nil
}

func config(endpoints, group string) *rmq.Config {
	return &rmq.Config{Endpoint: endpoints, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func produce(endpoints, topic string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	ids := map[string]bool{}
	for number := 0; number < count; number++ {
		message := &rmq.Message{Topic: topic, Body: []byte(body(number))}
		message.SetTag("tag")
		message.SetKeys(fmt.Sprintf("key%d", number))
		message.AddProperty("property", fmt.Sprintf("wert %d", number))
		receipts, err := producer.Send(context.Background(), message)
		if err != nil {
			return err
		}
		ids[receipts[0].MessageID] = true
	}
	if len(ids) != count {
		return fmt.Errorf("%d ids for %d messages", len(ids), count)
	}
	fmt.Println("PASS go producer")
	return nil
}

func simple(endpoints, topic, group string) error {
	consumer, err := rmq.NewSimpleConsumer(config(endpoints, group),
		rmq.WithSimpleAwaitDuration(5*time.Second),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}))
	if err != nil {
		return err
	}
	if err := consumer.Start(); err != nil {
		return err
	}
	defer consumer.GracefulStop()
	seen, changed, until := map[int]bool{}, -1, time.Now().Add(deadline)
	for len(seen) < count || changed >= 0 {
		if time.Now().After(until) {
			return fmt.Errorf("%d of %d, waiting for %d", len(seen), count, changed)
		}
		// An empty poll is an error of this client.
		messages, _ := consumer.Receive(context.Background(), 16, 30*time.Second)
		for _, message := range messages {
			number, err := check(message)
			if err != nil {
				return err
			}
			expected := int32(1)
			if number == changed {
				expected, changed = 2, -1
			}
			if message.GetDeliveryAttempt() != expected {
				return fmt.Errorf("message %d: attempt %d, not %d", number, message.GetDeliveryAttempt(), expected)
			}
			if len(seen) == 0 {
				// Comes back ten seconds from now, as the second attempt.
				if err := consumer.ChangeInvisibleDuration(message, 10*time.Second); err != nil {
					return err
				}
				changed = number
			} else if err := consumer.Ack(context.Background(), message); err != nil {
				return err
			}
			seen[number] = true
		}
	}
	if messages, _ := consumer.Receive(context.Background(), 16, 30*time.Second); len(messages) != 0 {
		return fmt.Errorf("%d messages after everything was settled", len(messages))
	}
	fmt.Println("PASS go simple")
	fmt.Println("PASS go change-invisible")
	return nil
}

func push(endpoints, topic, group string) error {
	var lock sync.Mutex
	seen, failed, again := map[int]bool{}, -1, false
	var wrong error
	listen := func(message *rmq.MessageView) rmq.ConsumerResult {
		lock.Lock()
		defer lock.Unlock()
		number, err := check(message)
		if err != nil {
			wrong = err
			return rmq.SUCCESS
		}
		if failed < 0 {
			failed = number
			return rmq.FAILURE
		}
		again = again || (number == failed && message.GetDeliveryAttempt() >= 2)
		seen[number] = true
		return rmq.SUCCESS
	}
	consumer, err := rmq.NewPushConsumer(config(endpoints, group),
		rmq.WithPushAwaitDuration(5*time.Second),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listen}),
		rmq.WithPushConsumptionThreadCount(4),
		rmq.WithPushMaxCacheMessageCount(1024))
	if err != nil {
		return err
	}
	if err := consumer.Start(); err != nil {
		return err
	}
	defer consumer.GracefulStop()
	for until := time.Now().Add(deadline); ; time.Sleep(100 * time.Millisecond) {
		lock.Lock()
		isDone, state, err := len(seen) == count && again, fmt.Sprintf("%d of %d, again: %v", len(seen), count, again), wrong
		lock.Unlock()
		if err != nil {
			return err
		}
		if isDone {
			break
		}
		if time.Now().After(until) {
			return fmt.Errorf("push: %s", state)
		}
	}
	fmt.Println("PASS go push")
	return nil
}

// Receives and acks the bodies wanted, each once and no others; the time each came.
func receive(endpoints, topic, group string, wanted ...string) (map[string]time.Time, error) {
	return receiveOf(endpoints, topic, group, rmq.SUB_ALL, 16, wanted...)
}

func receiveOf(endpoints, topic, group string, expression *rmq.FilterExpression, most int32, wanted ...string) (map[string]time.Time, error) {
	consumer, err := rmq.NewSimpleConsumer(config(endpoints, group),
		rmq.WithSimpleAwaitDuration(5*time.Second),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: expression}))
	if err != nil {
		return nil, err
	}
	if err := consumer.Start(); err != nil {
		return nil, err
	}
	defer consumer.GracefulStop()
	came, until := map[string]time.Time{}, time.Now().Add(deadline)
	for {
		isAll := len(came) == len(wanted)
		// An empty poll is an error of this client.
		messages, _ := consumer.Receive(context.Background(), most, 30*time.Second)
		for _, message := range messages {
			text, isWanted := string(message.GetBody()), false
			for _, one := range wanted {
				isWanted = isWanted || one == text
			}
			if _, isKnown := came[text]; isKnown || !isWanted {
				return nil, fmt.Errorf("%q beside %v", text, came)
			}
			came[text] = time.Now()
			if err := consumer.Ack(context.Background(), message); err != nil {
				return nil, err
			}
		}
		// One more poll: nothing else comes.
		if isAll {
			return came, nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%v of %v", came, wanted)
		}
	}
}

func filters(endpoints, topic, group string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	for number := 0; number < 6; number++ {
		message := &rmq.Message{Topic: topic, Body: []byte(strconv.Itoa(number))}
		message.SetTag([]string{"red", "green", "blue"}[number%3])
		message.AddProperty("n", strconv.Itoa(number))
		if _, err := producer.Send(context.Background(), message); err != nil {
			return err
		}
	}
	tags := rmq.NewFilterExpressionWithType("red || blue", rmq.TAG)
	if _, err := receiveOf(endpoints, topic, group+"-tag", tags, 16, "0", "2", "3", "5"); err != nil {
		return err
	}
	fmt.Println("PASS go filter-tag")
	sql := rmq.NewFilterExpressionWithType("n >= 3 AND TAGS <> 'green'", rmq.SQL92)
	if _, err := receiveOf(endpoints, topic, group+"-sql", sql, 16, "3", "5"); err != nil {
		return err
	}
	fmt.Println("PASS go filter-sql")
	return nil
}

func priority(endpoints, topic, group string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	for number := 0; number < 3; number++ {
		message := &rmq.Message{Topic: topic, Body: []byte(strconv.Itoa(number))}
		if err := message.SetPriority(int32(number)); err != nil {
			return err
		}
		if _, err := producer.Send(context.Background(), message); err != nil {
			return err
		}
	}
	came, err := receiveOf(endpoints, topic, group, rmq.SUB_ALL, 1, "0", "1", "2")
	if err != nil {
		return err
	}
	if !came["2"].Before(came["1"]) || !came["1"].Before(came["0"]) {
		return fmt.Errorf("priorities came at %v", came)
	}
	fmt.Println("PASS go priority")
	return nil
}

func delay(endpoints, topic, group string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	due := time.Now().Add(3 * time.Second)
	send := func(text string, at time.Time) (*rmq.SendReceipt, error) {
		message := &rmq.Message{Topic: topic, Body: []byte(text)}
		message.SetDelayTimestamp(at)
		receipts, err := producer.Send(context.Background(), message)
		if err != nil {
			return nil, err
		}
		return receipts[0], nil
	}
	if _, err := send("delayed", due); err != nil {
		return err
	}
	receipt, err := send("recalled", due.Add(time.Second))
	if err != nil {
		return err
	}
	id, err := producer.Recall(context.Background(), topic, receipt.RecallHandle)
	if err != nil || id != receipt.MessageID {
		return fmt.Errorf("recall of %s: %s, %w", receipt.MessageID, id, err)
	}
	came, err := receive(endpoints, topic, group, "delayed")
	if err != nil {
		return err
	}
	// The protocol's times are cut to milliseconds.
	if came["delayed"].Add(time.Millisecond).Before(due) {
		return fmt.Errorf("early by %v", due.Sub(came["delayed"]))
	}
	fmt.Println("PASS go delay")
	fmt.Println("PASS go recall")
	return nil
}

// Two message groups, sent in turn, consumed two at a time; one is left to come again.
func fifo(endpoints, topic, group string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	for number := 1; number <= 8; number++ {
		for _, name := range []string{"a", "b"} {
			message := &rmq.Message{Topic: topic, Body: []byte(fmt.Sprintf("%s%d", name, number))}
			message.SetMessageGroup(name)
			if _, err := producer.Send(context.Background(), message); err != nil {
				return err
			}
		}
	}
	consumer, err := rmq.NewSimpleConsumer(config(endpoints, group),
		rmq.WithSimpleAwaitDuration(5*time.Second),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}))
	if err != nil {
		return err
	}
	if err := consumer.Start(); err != nil {
		return err
	}
	defer consumer.GracefulStop()
	last, left, until := map[string]int{"a": 0, "b": 0}, "", time.Now().Add(deadline)
	for last["a"] < 8 || last["b"] < 8 {
		if time.Now().After(until) {
			return fmt.Errorf("fifo: %v", last)
		}
		messages, _ := consumer.Receive(context.Background(), 2, 10*time.Second)
		for _, message := range messages {
			text := string(message.GetBody())
			name := text[:1]
			number, err := strconv.Atoi(text[1:])
			if err != nil {
				return err
			}
			if left == "" && number == 3 {
				left = name
			}
			if name == left && last[name] == 2 && message.GetDeliveryAttempt() == 1 {
				// Neither acked nor passed over: it comes again, and nothing of its message group before it.
				continue
			}
			if number != last[name]+1 {
				return fmt.Errorf("%s after %v", text, last)
			}
			last[name] = number
			if err := consumer.Ack(context.Background(), message); err != nil {
				return err
			}
		}
	}
	fmt.Println("PASS go fifo")
	return nil
}

func transaction(endpoints, topic, group string) error {
	checker := &rmq.TransactionChecker{Check: func(message *rmq.MessageView) rmq.TransactionResolution {
		if string(message.GetBody()) == "checked" {
			return rmq.COMMIT
		}
		return rmq.ROLLBACK
	}}
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic), rmq.WithTransactionChecker(checker))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	for _, text := range []string{"committed", "rolled back", "checked", "checked away"} {
		transaction := producer.BeginTransaction()
		message := &rmq.Message{Topic: topic, Body: []byte(text)}
		if _, err := producer.SendWithTransaction(context.Background(), message, transaction); err != nil {
			return err
		}
		switch text {
		case "committed":
			err = transaction.Commit()
		case "rolled back":
			err = transaction.RollBack()
		}
		if err != nil {
			return err
		}
	}
	if _, err := receive(endpoints, topic, group, "committed", "checked"); err != nil {
		return err
	}
	fmt.Println("PASS go transaction")
	return nil
}

func deadLetter(endpoints, topic, group string) error {
	producer, err := rmq.NewProducer(config(endpoints, ""), rmq.WithTopics(topic))
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	if _, err := producer.Send(context.Background(), &rmq.Message{Topic: topic, Body: []byte("unlucky")}); err != nil {
		return err
	}
	var lock sync.Mutex
	var attempts []int32
	refuse := func(message *rmq.MessageView) rmq.ConsumerResult {
		lock.Lock()
		defer lock.Unlock()
		attempts = append(attempts, message.GetDeliveryAttempt())
		return rmq.FAILURE
	}
	consumer, err := rmq.NewPushConsumer(config(endpoints, group),
		rmq.WithPushAwaitDuration(5*time.Second),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: refuse}),
		rmq.WithPushConsumptionThreadCount(4),
		rmq.WithPushMaxCacheMessageCount(1024))
	if err != nil {
		return err
	}
	if err := consumer.Start(); err != nil {
		return err
	}
	defer consumer.GracefulStop()
	if _, err := receive(endpoints, "%DLQ%"+group, group+"-reader", "unlucky"); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	if len(attempts) != 2 || attempts[0] != 1 || attempts[1] != 2 {
		return fmt.Errorf("attempts %v", attempts)
	}
	fmt.Println("PASS go dead-letter")
	return nil
}

func main() {
	endpoints := flag.String("endpoints", "", "")
	topic := flag.String("topic", "", "")
	group := flag.String("group", "", "")
	flag.Parse()
	rmq.ResetLogger()
	// Over TLS this client names the whole list as the server, which is no host name and which rustls refuses;
	// it gets the first address, and the others from the route.
	first, _, _ := strings.Cut(*endpoints, ";")
	*endpoints = first
	for _, step := range []func() error{
		func() error { return produce(*endpoints, *topic) },
		func() error { return simple(*endpoints, *topic, *group+"-simple") },
		func() error { return push(*endpoints, *topic, *group+"-push") },
		func() error { return filters(*endpoints, *topic+"-filter", *group) },
		func() error { return priority(*endpoints, *topic+"-priority", *group) },
		func() error { return delay(*endpoints, *topic+"-delay", *group) },
		func() error { return fifo(*endpoints, *topic+"-fifo", *group+"-fifo") },
		func() error { return transaction(*endpoints, *topic+"-transaction", *group) },
		func() error { return deadLetter(*endpoints, *topic+"-dead", *group+"-dead") },
	} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL go:", err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}
