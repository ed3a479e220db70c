import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The classic Java client, unmodified: prints a line for each case that passes. */
public class Check {
    /** The default of 3 s is not always enough where several clusters of tests share two cores. */
    static final int SEND_TIMEOUT_MILLIS = 20_000;
    private static final int MESSAGES = 40;

    private final String endpoints;
    private final String topic;
    private final String group;

    Check(String endpoints, String topic, String group) {
        this.endpoints = endpoints;
        this.topic = topic;
        this.group = group;
    }

    public static void main(String[] args) throws Exception {
        Check check = new Check(value(args, "--endpoints"), value(args, "--topic"), value(args, "--group"));
        DefaultMQProducer producer = new DefaultMQProducer(check.group + "-producer");
        producer.setNamesrvAddr(check.endpoints);
        producer.setSendMsgTimeout(SEND_TIMEOUT_MILLIS);
        producer.start();
        try {
            check.sends(producer);
            check.consumes(producer);
            check.retries(producer);
            check.ordered(producer);
            check.broadcasts(producer);
            check.litePulls();
            check.begins(producer);
            new Later(check.endpoints, check.topic, check.group).run();
            new Traces(check.endpoints, check.topic, check.group).run();
            producer.shutdown();
        } catch (Throwable failure) {
            failure.printStackTrace();
            // Clients that still run would keep the program.
            System.exit(1);
        }
        System.exit(0);
    }

    private static String value(String[] args, String name) {
        for (int at = 0; at + 1 < args.length; at += 2) {
            if (args[at].equals(name)) {
                return args[at + 1];
            }
        }
        throw new IllegalArgumentException(name + " is missing");
    }

    static void pass(String name) {
        System.out.println("PASS classic-java " + name);
    }

    static void must(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    private static void stored(SendResult result) {
        must(result.getSendStatus() == SendStatus.SEND_OK, "not stored: " + result);
    }

    /** The topic does not exist yet: the first send makes it. */
    private void sends(DefaultMQProducer producer) throws Exception {
        stored(producer.send(new Message(topic, "TagA", "key", "sync".getBytes())));
        pass("sync");
        stored(producer.send(new Message(topic, new byte[10_000])));
        pass("compressed");
        CompletableFuture<SendResult> answer = new CompletableFuture<>();
        producer.send(new Message(topic, "async".getBytes()), new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable error) {
                answer.completeExceptionally(error);
            }
        });
        stored(answer.get(SEND_TIMEOUT_MILLIS, TimeUnit.MILLISECONDS));
        pass("async");
        producer.sendOneway(new Message(topic, "oneway".getBytes()));
        pass("oneway");
        List<Message> batch = new ArrayList<>();
        for (int number = 0; number < 10; number++) {
            batch.add(new Message(topic, ("batch" + number).getBytes()));
        }
        SendResult batched = producer.send(batch);
        stored(batched);
        must(batched.getMsgId().split(",").length == 10, "ids of a batch: " + batched);
        pass("batch");
        long offset = -1;
        for (int number = 0; number < 5; number++) {
            SendResult chosen = producer.send(new Message(topic, "ordered".getBytes()), (queues, message, wanted) ->
                queues.stream().filter(queue -> queue.getQueueId() == (Integer) wanted).findFirst().get(), 2);
            stored(chosen);
            must(chosen.getMessageQueue().getQueueId() == 2, "another queue: " + chosen);
            must(chosen.getQueueOffset() > offset, "out of order: " + chosen);
            offset = chosen.getQueueOffset();
        }
        pass("selector");
    }

    private void consumes(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-consumed";
        Set<String> bodies = new HashSet<>();
        for (int number = 0; number < MESSAGES; number++) {
            String body = "m" + number;
            bodies.add(body);
            stored(producer.send(new Message(consumed, number % 2 == 0 ? "TagA" : "TagB", body.getBytes())));
        }
        Set<String> got = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = consumer(group, consumed, "*", message -> got.add(new String(message.getBody())));
        await(() -> got.containsAll(bodies), "pushed " + got);
        pass("push");
        stored(producer.send(new Message(consumed, "TagA", "late".getBytes())));
        await(() -> got.contains("late"), "what arrives while the consumer waits");
        pass("waits");
        consumer.shutdown();
        Set<String> tagged = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer filtering =
            consumer(group + "-tagged", consumed, "TagB", message -> tagged.add(new String(message.getBody())));
        await(() -> tagged.size() == MESSAGES / 2, "tagged " + tagged);
        pass("tags");
        filtering.shutdown();
        // The first consumer committed what it consumed when it went.
        AtomicInteger again = new AtomicInteger();
        DefaultMQPushConsumer later = consumer(group, consumed, "*", message -> again.incrementAndGet());
        stored(producer.send(new Message(consumed, "TagA", "last".getBytes())));
        await(() -> again.get() > 0, "the last message");
        Thread.sleep(2000);
        must(again.get() == 1, "consumed before, and again: " + (again.get() - 1));
        pass("offsets");
        // Two consumers of a group divide the queues among themselves.
        AtomicInteger others = new AtomicInteger();
        DefaultMQPushConsumer second = new DefaultMQPushConsumer(group);
        second.setInstanceName("second");
        start(second, consumed, "*", message -> others.incrementAndGet());
        await(() -> {
            stored(producer.send(new Message(consumed, "TagA", "shared".getBytes())));
            return others.get() > 0;
        }, "the second consumer of a group gets nothing");
        pass("rebalance");
        second.shutdown();
        later.shutdown();
    }

    /** A message that is never consumed: tried again twice, then a dead letter, which a consumer reads. */
    private void retries(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-retry";
        String name = group + "-retry";
        stored(producer.send(new Message(consumed, "TagA", "again".getBytes())));
        List<Integer> times = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name);
        consumer.setNamesrvAddr(endpoints);
        consumer.setMaxReconsumeTimes(2);
        consumer.subscribe(consumed, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> times.add(message.getTopic().equals(consumed) ? message.getReconsumeTimes() : -1));
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        await(() -> times.size() == 3, "tries " + times);
        must(times.equals(Arrays.asList(0, 1, 2)), "tries " + times);
        pass("retry");
        List<MessageExt> dead = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer reader = consumer(name + "-dead", "%DLQ%" + name, "*", dead::add);
        await(() -> dead.size() == 1, "dead letters " + dead);
        MessageExt letter = dead.get(0);
        must(new String(letter.getBody()).equals("again") && letter.getReconsumeTimes() == 3, "the dead letter " + letter);
        must(consumed.equals(letter.getProperty("RETRY_TOPIC")), "it was in " + letter.getProperties());
        pass("dead-letter");
        reader.shutdown();
        consumer.shutdown();
    }

    /** Queues are consumed in order, also over a failure and when a second consumer takes some over. */
    private void ordered(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-ordered";
        String name = group + "-ordered";
        Map<Integer, List<Integer>> byQueue = new ConcurrentHashMap<>();
        Set<Integer> got = ConcurrentHashMap.newKeySet();
        AtomicBoolean hasFailed = new AtomicBoolean();
        AtomicBoolean isBroken = new AtomicBoolean();
        AtomicInteger others = new AtomicInteger();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (String instance : new String[] {"first", "second"}) {
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name);
            consumer.setNamesrvAddr(endpoints);
            consumer.setInstanceName(instance);
            consumer.subscribe(consumed, "*");
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                for (MessageExt message : messages) {
                    int number = Integer.parseInt(new String(message.getBody()));
                    if (number == 7 && hasFailed.compareAndSet(false, true)) {
                        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    }
                    List<Integer> before = byQueue.computeIfAbsent(message.getQueueId(), queue -> new CopyOnWriteArrayList<>());
                    if (!before.isEmpty() && before.get(before.size() - 1) >= number && !before.contains(number)) {
                        isBroken.set(true);
                    }
                    before.add(number);
                    got.add(number);
                    others.addAndGet(instance.equals("second") ? 1 : 0);
                }
                return ConsumeOrderlyStatus.SUCCESS;
            });
            consumers.add(consumer);
        }
        int sent = 0;
        while (sent < 20) {
            ordered(producer, consumed, sent++);
        }
        consumers.get(0).start();
        await(() -> got.size() == 20, "in order " + byQueue);
        must(hasFailed.get() && !isBroken.get(), "out of order: " + byQueue);
        pass("orderly");
        consumers.get(1).start();
        while (others.get() == 0 && sent < 2000) {
            ordered(producer, consumed, sent++);
            Thread.sleep(20);
        }
        int all = sent;
        await(() -> got.size() == all, "in order " + byQueue);
        must(others.get() > 0 && !isBroken.get(), "out of order, with two consumers: " + byQueue);
        pass("orderly-rebalance");
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }

    private static void ordered(DefaultMQProducer producer, String consumed, int number) throws Exception {
        stored(producer.send(new Message(consumed, String.valueOf(number).getBytes()), (queues, message, wanted) ->
            queues.stream().filter(queue -> queue.getQueueId() == (Integer) wanted).findFirst().get(), number % 4));
    }

    /** Each consumer gets every message. */
    private void broadcasts(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-broadcast";
        stored(producer.send(new Message(consumed, "before".getBytes())));
        List<Set<String>> all = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int number = 0; number < 2; number++) {
            Set<String> got = ConcurrentHashMap.newKeySet();
            all.add(got);
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group + "-broadcast");
            // Its offsets are a file by this name.
            consumer.setInstanceName("broadcast" + number + "-" + System.nanoTime());
            consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
            start(consumer, consumed, "*", message -> got.add(new String(message.getBody())));
            consumers.add(consumer);
        }
        stored(producer.send(new Message(consumed, "after".getBytes())));
        await(() -> all.stream().allMatch(got -> got.contains("before") && got.contains("after")), "broadcast " + all);
        pass("broadcast");
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }

    /** What the push consumers got before, by subscription and by assignment. */
    private void litePulls() throws Exception {
        String consumed = topic + "-consumed";
        DefaultLitePullConsumer subscribed = new DefaultLitePullConsumer(group + "-lite");
        subscribed.setNamesrvAddr(endpoints);
        subscribed.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        subscribed.subscribe(consumed, "TagB");
        subscribed.start();
        Set<String> tagged = ConcurrentHashMap.newKeySet();
        await(() -> {
            subscribed.poll(500).forEach(message -> tagged.add(new String(message.getBody())));
            return tagged.size() == MESSAGES / 2;
        }, "lite pull " + tagged);
        pass("lite-pull");
        subscribed.shutdown();
        DefaultLitePullConsumer assigned = new DefaultLitePullConsumer(group + "-assigned");
        assigned.setNamesrvAddr(endpoints);
        assigned.start();
        Collection<MessageQueue> queues = assigned.fetchMessageQueues(consumed);
        assigned.assign(queues);
        for (MessageQueue queue : queues) {
            assigned.seekToBegin(queue);
        }
        Set<String> got = ConcurrentHashMap.newKeySet();
        await(() -> {
            assigned.poll(500).forEach(message -> got.add(new String(message.getBody())));
            return got.size() >= MESSAGES;
        }, "assigned " + got);
        pass("lite-assign");
        assigned.shutdown();
    }

    /** Where a group begins that is new, in a topic whose first messages are gone. */
    private void begins(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-old";
        stored(producer.send(new Message(consumed, "first".getBytes())));
        Thread.sleep(2100);
        String at = UtilAll.timeMillisToHumanString3(System.currentTimeMillis() - 1000);
        stored(producer.send(new Message(consumed, "second".getBytes())));
        Map<ConsumeFromWhere, Set<String>> got = new LinkedHashMap<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (ConsumeFromWhere from : new ConsumeFromWhere[] {ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET,
            ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET}) {
            Set<String> of = ConcurrentHashMap.newKeySet();
            got.put(from, of);
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group + "-" + from.name());
            consumer.setConsumeTimestamp(at);
            start(consumer, consumed, "*", from, message -> of.add(new String(message.getBody())));
            consumers.add(consumer);
        }
        int[] number = {0};
        await(() -> {
            stored(producer.send(new Message(consumed, ("later" + number[0]++).getBytes())));
            return got.values().stream().allMatch(of -> of.stream().anyMatch(body -> body.startsWith("later")));
        }, "from first, time and last: " + got);
        Set<String> first = got.get(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        Set<String> time = got.get(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
        Set<String> last = got.get(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
        await(() -> first.contains("first") && first.contains("second"), "from first " + first);
        pass("from-first");
        await(() -> time.contains("second"), "from a time " + time);
        must(!time.contains("first"), "from a time " + time);
        pass("from-time");
        must(!last.contains("first") && !last.contains("second"), "from last " + last);
        pass("from-last");
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }

    interface Taken {
        void take(MessageExt message);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    private DefaultMQPushConsumer consumer(String name, String consumed, String tags, Taken taken) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name);
        start(consumer, consumed, tags, taken);
        return consumer;
    }

    private void start(DefaultMQPushConsumer consumer, String consumed, String tags, Taken taken) throws Exception {
        start(consumer, consumed, tags, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, taken);
    }

    private void start(DefaultMQPushConsumer consumer, String consumed, String tags, ConsumeFromWhere from, Taken taken)
        throws Exception {
        consumer.setNamesrvAddr(endpoints);
        consumer.setConsumeFromWhere(from);
        consumer.subscribe(consumed, tags);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(taken::take);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    static void await(Condition condition, String what) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
        while (!condition.holds()) {
            must(System.nanoTime() < until, what);
            Thread.sleep(50);
        }
    }
}
