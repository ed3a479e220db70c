// The official Java client against a cluster: producer, simple consumer, push consumer, all kinds of message, over
// TLS, which is its default.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

public class Check {
    private static final int COUNT = 50;
    private static final long DEADLINE_MS = 60_000;
    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();

    private static String body(int number) {
        return "nachricht " + number + " 消息";
    }

    private static void require(boolean holds, Object what) {
        if (!holds) {
            throw new IllegalStateException(String.valueOf(what));
        }
    }

    private static int check(MessageView message) {
        int number = Integer.parseInt(message.getKeys().iterator().next().replace("key", ""));
        ByteBuffer body = message.getBody();
        byte[] bytes = new byte[body.remaining()];
        body.get(bytes);
        require(body(number).equals(new String(bytes, StandardCharsets.UTF_8)), "body of " + message);
        require(message.getTag().orElse("").equals("tag"), "tag of " + message);
        require(("wert " + number).equals(message.getProperties().get("property")), "property of " + message);
        return number;
    }

    private static void produce(ClientConfiguration configuration, String topic) throws Exception {
        Set<String> ids = new HashSet<>();
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            for (int number = 0; number < COUNT; number++) {
                var message = PROVIDER.newMessageBuilder()
                        .setTopic(topic)
                        .setTag("tag")
                        .setKeys("key" + number)
                        .addProperty("property", "wert " + number)
                        .setBody(body(number).getBytes(StandardCharsets.UTF_8))
                        .build();
                ids.add(producer.send(message).getMessageId().toString());
            }
        }
        require(ids.size() == COUNT, ids);
        System.out.println("PASS java producer");
    }

    private static void simple(ClientConfiguration configuration, String topic, String group) throws Exception {
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setAwaitDuration(Duration.ofSeconds(5))
                .setSubscriptionExpressions(Collections.singletonMap(topic, FilterExpression.SUB_ALL))
                .build()) {
            Set<Integer> seen = new HashSet<>();
            Integer changed = null;
            long until = System.currentTimeMillis() + DEADLINE_MS;
            while (seen.size() < COUNT || changed != null) {
                require(System.currentTimeMillis() < until, seen.size() + " of " + COUNT + ", waiting for " + changed);
                for (MessageView message : consumer.receive(16, Duration.ofSeconds(30))) {
                    int number = check(message);
                    if (seen.isEmpty()) {
                        // Comes back ten seconds from now, as the second attempt.
                        require(message.getDeliveryAttempt() == 1, message);
                        changed = number;
                        seen.add(number);
                        consumer.changeInvisibleDuration(message, Duration.ofSeconds(10));
                        continue;
                    }
                    boolean isChanged = changed != null && number == changed;
                    require(message.getDeliveryAttempt() == (isChanged ? 2 : 1), message);
                    changed = isChanged ? null : changed;
                    consumer.ack(message);
                    seen.add(number);
                }
            }
            require(consumer.receive(16, Duration.ofSeconds(30)).isEmpty(), "everything was settled");
        }
        System.out.println("PASS java simple");
        System.out.println("PASS java change-invisible");
    }

    private static void push(ClientConfiguration configuration, String topic, String group) throws Exception {
        Set<Integer> seen = ConcurrentHashMap.newKeySet();
        AtomicInteger failed = new AtomicInteger(-1);
        AtomicBoolean again = new AtomicBoolean();
        AtomicReference<Exception> wrong = new AtomicReference<>();
        try (PushConsumer consumer = PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Collections.singletonMap(topic, FilterExpression.SUB_ALL))
                .setMessageListener(message -> {
                    try {
                        int number = check(message);
                        if (failed.compareAndSet(-1, number)) {
                            return ConsumeResult.FAILURE;
                        }
                        if (number == failed.get() && message.getDeliveryAttempt() >= 2) {
                            again.set(true);
                        }
                        seen.add(number);
                    } catch (RuntimeException error) {
                        wrong.set(error);
                    }
                    return ConsumeResult.SUCCESS;
                })
                .build()) {
            long until = System.currentTimeMillis() + DEADLINE_MS;
            while (!(seen.size() == COUNT && again.get())) {
                require(wrong.get() == null, wrong.get());
                require(System.currentTimeMillis() < until, seen.size() + " of " + COUNT + ", again: " + again);
                Thread.sleep(100);
            }
        }
        System.out.println("PASS java push");
    }

    private static String text(MessageView message) {
        return StandardCharsets.UTF_8.decode(message.getBody()).toString();
    }

    private static Message textMessage(String topic, String text, Long at) {
        var builder = PROVIDER.newMessageBuilder().setTopic(topic).setBody(text.getBytes(StandardCharsets.UTF_8));
        return (at == null ? builder : builder.setDeliveryTimestamp(at)).build();
    }

    private static Map<String, Long> receive(
            ClientConfiguration configuration, String topic, String group, Set<String> wanted) throws Exception {
        return receive(configuration, topic, group, wanted, FilterExpression.SUB_ALL, 16);
    }

    /** Receives and acks the bodies wanted, each once and no others; the time each came. */
    private static Map<String, Long> receive(
            ClientConfiguration configuration,
            String topic,
            String group,
            Set<String> wanted,
            FilterExpression expression,
            int most)
            throws Exception {
        Map<String, Long> came = new HashMap<>();
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setAwaitDuration(Duration.ofSeconds(5))
                .setSubscriptionExpressions(Collections.singletonMap(topic, expression))
                .build()) {
            long until = System.currentTimeMillis() + DEADLINE_MS;
            while (!came.keySet().equals(wanted)) {
                require(System.currentTimeMillis() < until, came.keySet() + " of " + wanted);
                for (MessageView message : consumer.receive(most, Duration.ofSeconds(30))) {
                    String text = text(message);
                    require(wanted.contains(text), text + " beside " + came.keySet());
                    require(came.put(text, System.currentTimeMillis()) == null, text + " came twice");
                    consumer.ack(message);
                }
            }
            require(consumer.receive(16, Duration.ofSeconds(30)).isEmpty(), "nothing else comes");
        }
        return came;
    }

    private static void filters(ClientConfiguration configuration, String topic, String group) throws Exception {
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            for (int number = 0; number < 6; number++) {
                producer.send(PROVIDER.newMessageBuilder()
                        .setTopic(topic)
                        .setTag(List.of("red", "green", "blue").get(number % 3))
                        .addProperty("n", String.valueOf(number))
                        .setBody(String.valueOf(number).getBytes(StandardCharsets.UTF_8))
                        .build());
            }
        }
        var tags = new FilterExpression("red || blue", FilterExpressionType.TAG);
        receive(configuration, topic, group + "-tag", Set.of("0", "2", "3", "5"), tags, 16);
        System.out.println("PASS java filter-tag");
        var sql = new FilterExpression("n >= 3 AND TAGS <> 'green'", FilterExpressionType.SQL92);
        receive(configuration, topic, group + "-sql", Set.of("3", "5"), sql, 16);
        System.out.println("PASS java filter-sql");
    }

    private static void priority(ClientConfiguration configuration, String topic, String group) throws Exception {
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            for (int number = 0; number < 3; number++) {
                producer.send(PROVIDER.newMessageBuilder()
                        .setTopic(topic)
                        .setPriority(number)
                        .setBody(String.valueOf(number).getBytes(StandardCharsets.UTF_8))
                        .build());
            }
        }
        var all = FilterExpression.SUB_ALL;
        var came = receive(configuration, topic, group, Set.of("0", "1", "2"), all, 1);
        require(came.get("2") < came.get("1") && came.get("1") < came.get("0"), came);
        System.out.println("PASS java priority");
    }

    private static void delay(ClientConfiguration configuration, String topic, String group) throws Exception {
        long due = System.currentTimeMillis() + 3000;
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            producer.send(textMessage(topic, "delayed", due));
            SendReceipt recalled = producer.send(textMessage(topic, "recalled", due + 1000));
            var id = producer.recallMessage(topic, recalled.getRecallHandle()).getMessageId();
            require(id.toString().equals(recalled.getMessageId().toString()), id);
        }
        long came = receive(configuration, topic, group, Set.of("delayed")).get("delayed");
        require(came >= due, "early by " + (due - came) + " ms");
        System.out.println("PASS java delay");
        System.out.println("PASS java recall");
    }

    /** Two message groups, sent in turn, consumed two at a time; one is left to come again. */
    private static void fifo(ClientConfiguration configuration, String topic, String group) throws Exception {
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            for (int number = 1; number <= 8; number++) {
                for (String name : new String[] {"a", "b"}) {
                    producer.send(PROVIDER.newMessageBuilder()
                            .setTopic(topic)
                            .setMessageGroup(name)
                            .setBody((name + number).getBytes(StandardCharsets.UTF_8))
                            .build());
                }
            }
        }
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setAwaitDuration(Duration.ofSeconds(5))
                .setSubscriptionExpressions(Collections.singletonMap(topic, FilterExpression.SUB_ALL))
                .build()) {
            Map<String, Integer> last = new HashMap<>(Map.of("a", 0, "b", 0));
            String left = null;
            long until = System.currentTimeMillis() + DEADLINE_MS;
            while (!last.equals(Map.of("a", 8, "b", 8))) {
                require(System.currentTimeMillis() < until, last);
                for (MessageView message : consumer.receive(2, Duration.ofSeconds(10))) {
                    String text = text(message);
                    String name = text.substring(0, 1);
                    int number = Integer.parseInt(text.substring(1));
                    left = left == null && number == 3 ? name : left;
                    if (name.equals(left) && last.get(name) == 2 && message.getDeliveryAttempt() == 1) {
                        // Neither acked nor passed over: it comes again, and nothing of its message group before it.
                        continue;
                    }
                    require(number == last.get(name) + 1, text + " after " + last);
                    last.put(name, number);
                    consumer.ack(message);
                }
            }
        }
        System.out.println("PASS java fifo");
    }

    private static void transaction(ClientConfiguration configuration, String topic, String group) throws Exception {
        TransactionChecker checker =
                message -> text(message).equals("checked") ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
        try (Producer producer = PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(topic)
                .setTransactionChecker(checker)
                .build()) {
            for (String text : new String[] {"committed", "rolled back", "checked", "checked away"}) {
                Transaction transaction = producer.beginTransaction();
                producer.send(textMessage(topic, text, null), transaction);
                if (text.equals("committed")) {
                    transaction.commit();
                } else if (text.equals("rolled back")) {
                    transaction.rollback();
                }
            }
            receive(configuration, topic, group, Set.of("committed", "checked"));
        }
        System.out.println("PASS java transaction");
    }

    private static void deadLetter(ClientConfiguration configuration, String topic, String group) throws Exception {
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build()) {
            producer.send(textMessage(topic, "unlucky", null));
        }
        Queue<Integer> attempts = new ConcurrentLinkedQueue<>();
        try (PushConsumer consumer = PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Collections.singletonMap(topic, FilterExpression.SUB_ALL))
                .setMessageListener(message -> {
                    attempts.add(message.getDeliveryAttempt());
                    return ConsumeResult.FAILURE;
                })
                .build()) {
            receive(configuration, "%DLQ%" + group, group + "-reader", Set.of("unlucky"));
        }
        require(List.copyOf(attempts).equals(List.of(1, 2)), attempts);
        System.out.println("PASS java dead-letter");
    }

    public static void main(String[] words) {
        Map<String, String> args = new HashMap<>();
        for (int at = 0; at + 1 < words.length; at += 2) {
            args.put(words[at], words[at + 1]);
        }
        try {
            var configuration = ClientConfiguration.newBuilder().setEndpoints(args.get("--endpoints")).build();
            produce(configuration, args.get("--topic"));
            simple(configuration, args.get("--topic"), args.get("--group") + "-simple");
            push(configuration, args.get("--topic"), args.get("--group") + "-push");
            filters(configuration, args.get("--topic") + "-filter", args.get("--group"));
            priority(configuration, args.get("--topic") + "-priority", args.get("--group"));
            delay(configuration, args.get("--topic") + "-delay", args.get("--group"));
            fifo(configuration, args.get("--topic") + "-fifo", args.get("--group") + "-fifo");
            transaction(configuration, args.get("--topic") + "-transaction", args.get("--group"));
            deadLetter(configuration, args.get("--topic") + "-dead", args.get("--group") + "-dead");
            System.exit(0);
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }
}
