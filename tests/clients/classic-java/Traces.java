import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** What clients with traces switched on write of their messages, and who looks for it by a message's id finds. */
public class Traces {
    private static final String TRACES = "RMQ_SYS_TRACE_TOPIC";
    /** As many as are written for one message here, and more. */
    private static final int MOST = 32;

    private final String endpoints;
    private final String topic;
    private final String group;

    Traces(String endpoints, String topic, String group) {
        this.endpoints = endpoints;
        this.topic = topic + "-traced";
        this.group = group + "-traced";
    }

    void run() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group + "-producer", true, null);
        producer.setInstanceName("traced-producer");
        producer.setNamesrvAddr(endpoints);
        producer.setSendMsgTimeout(Check.SEND_TIMEOUT_MILLIS);
        producer.start();
        SendResult sent = producer.send(new Message(topic, "TagA", "key", "traced".getBytes()));
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group, true, null);
        consumer.setInstanceName("traced-consumer");
        consumer.setNamesrvAddr(endpoints);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
            ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        try {
            for (String what : new String[] {"Pub", "SubBefore", "SubAfter"}) {
                Check.await(() -> has(producer, sent.getMsgId(), what), "a trace of " + what);
            }
            Check.pass("traces");
        } finally {
            consumer.shutdown();
            producer.shutdown();
        }
    }

    private static boolean has(DefaultMQProducer producer, String id, String what) throws Exception {
        QueryResult found;
        try {
            found = producer.queryMessage(TRACES, id, MOST, 0, Long.MAX_VALUE);
        } catch (MQClientException none) {
            return false;
        }
        for (MessageExt trace : found.getMessageList()) {
            // Records end with \2, and begin with what they are of.
            for (String record : new String(trace.getBody(), StandardCharsets.UTF_8).split("\u0002")) {
                if (record.trim().startsWith(what + "\u0001") && record.contains(id)) {
                    return true;
                }
            }
        }
        return false;
    }
}
