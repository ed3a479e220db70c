import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** What is sent for later, in transactions, and compressed in each way that the client knows. */
public class Later {
    private static final String COMPRESS_TYPE = "rocketmq.message.compressType";
    /** A question comes with the first heartbeat after it is due: this client sends them often. */
    private static final int HEARTBEAT_MILLIS = 1000;

    private final String endpoints;
    private final String topic;
    private final String group;
    private final Map<String, MessageExt> got = new ConcurrentHashMap<>();

    Later(String endpoints, String topic, String group) {
        this.endpoints = endpoints;
        this.topic = topic + "-later";
        this.group = group + "-later";
    }

    void run() throws Exception {
        compressed();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setInstanceName("later-consumer");
        consumer.setNamesrvAddr(endpoints);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> got.put(message.getKeys(), message));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            for (String type : Arrays.asList("ZLIB", "LZ4", "ZSTD")) {
                Check.await(() -> got.containsKey(type), "the body of " + type);
                Check.must(Arrays.equals(got.get(type).getBody(), body()), "another body than was sent by " + type);
            }
            Check.pass("compressions");
            delays();
            transactions();
        } finally {
            consumer.shutdown();
        }
    }

    private static byte[] body() {
        byte[] body = new byte[20_000];
        for (int at = 0; at < body.length; at++) {
            body[at] = (byte) (at / 100);
        }
        return body;
    }

    private void compressed() throws Exception {
        for (String type : Arrays.asList("ZLIB", "LZ4", "ZSTD")) {
            // Read when a producer is made; versions before 4.9.3 know zlib only, whatever it says.
            System.setProperty(COMPRESS_TYPE, type);
            DefaultMQProducer producer = new DefaultMQProducer(group + "-" + type);
            producer.setInstanceName(type);
            producer.setNamesrvAddr(endpoints);
            producer.setSendMsgTimeout(Check.SEND_TIMEOUT_MILLIS);
            producer.start();
            Message message = new Message(topic, "TagA", type, body());
            Check.must(producer.send(message).getSendStatus() == SendStatus.SEND_OK, "not stored: " + type);
            producer.shutdown();
        }
        System.clearProperty(COMPRESS_TYPE);
    }

    private void delays() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group + "-delays");
        producer.setInstanceName("delays");
        producer.setNamesrvAddr(endpoints);
        producer.setSendMsgTimeout(Check.SEND_TIMEOUT_MILLIS);
        producer.start();
        long sent = System.currentTimeMillis();
        Message message = new Message(topic, "TagA", "delayed", "delayed".getBytes());
        message.setDelayTimeLevel(1);
        Check.must(producer.send(message).getSendStatus() == SendStatus.SEND_OK, "not stored");
        Check.await(() -> got.containsKey("delayed"), "the delayed message");
        long stored = got.get("delayed").getStoreTimestamp();
        Check.must(stored >= sent + 1000, "after " + (stored - sent) + " ms");
        Check.must(got.get("delayed").getTopic().equals(topic), "another topic");
        Check.must(got.get("delayed").getDelayTimeLevel() == 1, "another level");
        Check.pass("delay");
        producer.shutdown();
    }

    private void transactions() throws Exception {
        Set<String> asked = ConcurrentHashMap.newKeySet();
        TransactionMQProducer producer = new TransactionMQProducer(group + "-transactions");
        producer.setInstanceName("transactions");
        producer.setHeartbeatBrokerInterval(HEARTBEAT_MILLIS);
        producer.setNamesrvAddr(endpoints);
        producer.setSendMsgTimeout(Check.SEND_TIMEOUT_MILLIS);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return (LocalTransactionState) argument;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                asked.add(message.getKeys());
                // A server that is slow may ask about what was decided.
                boolean commits = message.getKeys().equals("asked-commit") || message.getKeys().equals("committed");
                return commits ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
            }
        });
        producer.start();
        begin(producer, "committed", LocalTransactionState.COMMIT_MESSAGE);
        begin(producer, "rolled-back", LocalTransactionState.ROLLBACK_MESSAGE);
        begin(producer, "asked-commit", LocalTransactionState.UNKNOW);
        begin(producer, "asked-rollback", LocalTransactionState.UNKNOW);
        Check.await(() -> got.containsKey("committed"), "the committed message");
        MessageExt committed = got.get("committed");
        Check.must(committed.getPreparedTransactionOffset() > 0, "no offset of the half message");
        Check.pass("transaction");
        Check.await(() -> got.containsKey("asked-commit") && asked.contains("asked-rollback"), "questions: " + asked);
        Check.must(!got.containsKey("rolled-back") && !got.containsKey("asked-rollback"), "rolled back: " + got.keySet());
        Check.pass("check-back");
        producer.shutdown();
    }

    private void begin(TransactionMQProducer producer, String key, LocalTransactionState state) throws Exception {
        Message message = new Message(topic, "TagA", key, key.getBytes());
        Check.must(producer.sendMessageInTransaction(message, state).getSendStatus() == SendStatus.SEND_OK, key);
    }
}
